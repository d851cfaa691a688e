"""Hypothesis strategies for records, with the texts that break parsers; and rows of foreign formats."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from alignment.data.formats import FORMATS, trl
from alignment.data.records import (
    Comparison,
    Completion,
    Judgment,
    Message,
    Parent,
    Record,
    Source,
    check_record,
)

# Surrogates are not text; everything else is, quotes, newlines, "\u2028" and NUL included.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        'a "quoted": {"id":1,"id":2} text',
        "two\nlines\r\n",
        "\u2028 ü 汉字 🐈",
        "\\u0022",
        "\x00",
        " ",
        "\n\nHuman: no",
    ]
)
names = st.text("abcxyz-_0189", min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32).map(float)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
metas = st.dictionaries(texts, json_values, max_size=2)
objects = st.lists(metas, min_size=1, max_size=2)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def messages(roles: tuple[str, ...]) -> st.SearchStrategy[Message]:
    return st.builds(
        Message,
        role=st.sampled_from(roles),
        content=texts,
        parts=maybe(objects),
        name=maybe(names),
        tool_calls=maybe(objects),
        tool_call_id=maybe(names),
        weight=maybe(numbers),
    )


any_role = ("system", "developer", "user", "assistant", "tool")
prompts = st.builds(
    lambda turns, last: [*turns, last],
    st.lists(messages(any_role), max_size=2),
    messages(("user", "tool", "system")),
)


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    several = st.lists(messages(any_role), max_size=2).flatmap(
        lambda turns: messages(("assistant",)).map(lambda reply: [*turns, reply])
    )
    if draw(st.booleans()):
        said: dict[str, Any] = {"content": draw(texts)}
    else:
        said = {"messages": draw(several)}
    source = st.builds(Source, kind=names, name=maybe(names), params=metas)
    return Completion(
        **said,
        source=draw(maybe(source)),
        license=draw(maybe(texts)),
        rewards=draw(maybe(st.lists(maybe(numbers), max_size=2))),
        meta=draw(metas),
    )


@st.composite
def judgments(draw: st.DrawFn, count: int) -> Judgment:
    def column(entry: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(maybe(entry), min_size=count, max_size=count)

    pairs = st.permutations(range(count)).map(lambda order: order[:2])
    compared = st.builds(
        lambda pair, p, strength: Comparison(pair[0], pair[1], p, strength),
        pairs,
        maybe(st.floats(0, 1)),
        maybe(numbers),
    )
    return Judgment(
        by=draw(maybe(names)),
        ranks=draw(maybe(column(st.integers(1, 4)))),
        comparisons=draw(maybe(st.lists(compared, max_size=2))) if count > 1 else None,
        ratings=draw(maybe(st.dictionaries(names, column(numbers), max_size=2))),
        labels=draw(maybe(column(st.booleans()))),
        all_bad=draw(maybe(st.booleans())),
        rationale=draw(maybe(texts)),
        at=draw(maybe(names)),
        seconds=draw(maybe(st.floats(0, 1e6))),
        presented=draw(maybe(st.permutations(range(count)))),
        guideline=draw(maybe(names)),
        meta=draw(metas),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    offered = draw(st.lists(completions(), max_size=3))
    for index, completion in enumerate(offered):
        completion.id = draw(maybe(st.just(f"c{index}")))
    chosen = st.lists(st.integers(0, len(offered) - 1), unique=True) if offered else st.just([])
    return Record(
        prompt=draw(prompts),
        id=draw(maybe(names)),
        completions=offered,
        demonstrations=draw(maybe(chosen)),
        judgments=draw(st.lists(judgments(len(offered)), max_size=2)),
        tools=draw(maybe(objects)),
        parent=draw(maybe(st.builds(Parent, id=names, completion=maybe(st.integers(0, 3))))),
        meta=draw(metas),
    )


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def load(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return json.loads(text) if text[:1] == b"[" else [json.loads(line) for line in text.splitlines()]


def there_and_back(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Row -> record -> row, for each, with the rules checked and nothing lost on the way."""
    module = FORMATS[name]
    again = []
    for row in rows:
        record = module.decode(json.dumps(row).encode(), "here")
        check_record(record, "here")
        found = module.rows(record, module.style_of(record)) if module is trl else module.rows(record)
        again += found
    return again
