"""Probes: every model here is measured on sets of items, while it is in memory for the rest of the work.

What comes of it lies in RUN/probes (see probe_rows.py). A model's rows appear there when it has done
the whole probe, and before that in parts of PART items, so that a stopped evaluation goes on behind the last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment.backend.chat import encode
from alignment.backend.generation.settings import GenerationSection
from alignment.backend.progress import Steps
from alignment.data.files import atomic_output
from alignment.errors import UserError
from alignment.evaluation import safety
from alignment.evaluation.answers import Answers, Prompt, is_endpoint, is_file
from alignment.evaluation.collect import Counter
from alignment.evaluation.config import Config, ProbeSection
from alignment.evaluation.likelihood import (
    Context,
    any_start,
    asked_with,
    choice_logps,
    completion_log_probs,
    context_size,
    start_ids,
)
from alignment.evaluation.probe_items import read_items
from alignment.evaluation.probe_rows import SETTINGS, Row, read_rows, write_rows
from alignment.evaluation.safety_items import SAFETY, read_safety
from alignment.evaluation.sampled import asked_answers, sample_answers

WRITTEN = ("exact_match", "xstest")  # kinds whose answers the model writes
LIKELIHOODS = ("bbq", "crows_pairs", "truthfulqa")
PART = 512  # items
PLAIN = "Question: {question}\nAnswer:"


@dataclass(frozen=True)
class Probe:
    """A probe of the config with its items, of probe_items.Item or safety_items.SafetyItem by its kind."""

    name: str
    section: ProbeSection
    items: list[Any]
    repeated: int

    @property
    def settings(self) -> dict[str, Any]:
        section = self.section.model_dump(mode="json")
        return {**section, "items": len(self.items), "repeated": self.repeated}

    @property
    def texts(self) -> list[Prompt]:
        """What is asked, or read, without what stands around it: to be looked for in training data."""
        said = ((item.id, item.text or item.choices[0]) for item in self.items)
        return [Prompt(name, [{"role": "user", "content": text}], name) for name, text in said]


def read_probes(sections: Mapping[str, ProbeSection]) -> list[Probe]:
    """The probes of a config with their items. Raises UserError as `read_items` does."""
    found = []
    for name, section in sections.items():
        read: Any = read_safety if section.kind in SAFETY else read_items
        items, repeated = read(section.kind, section.files, section.max_items, f"probes.{name}")
        found.append(Probe(name, section, items, repeated))
    return found


def probe_model(
    probes: Sequence[Probe], name: str, load: Any, tokenizer: Any, config: Config, folder: Path
) -> None:
    """Measure a model on every probe that `folder` (the run directory) does not hold its rows of.

    load: gives the model, and is called only if something is to be measured.
    Raises UserError for items that do not fit into the model's context, and for rows of other items.
    """
    for probe in probes:
        file = _file(folder, probe, name)
        if _is_done(file, probe):
            continue
        rows: list[Row] = []
        with Steps(f"{name}: {probe.name}", sum(map(_weight, probe.items))) as steps:
            count = Counter(steps)
            for at in range(0, len(probe.items), PART):
                part = replace(probe, items=probe.items[at : at + PART])
                kept = folder / "parts" / "probes" / probe.name / name / f"{at}.jsonl"
                if _is_done(kept, part):
                    count(sum(map(_weight, part.items)))
                else:
                    write_rows(
                        kept, _measure(part, name, load, tokenizer, config, kept.with_suffix(""), count)
                    )
                rows += read_rows(kept)
        write_rows(file, rows)


def _measure(
    probe: Probe, name: str, load: Any, tokenizer: Any, config: Config, folder: Path, count: Counter
) -> list[Row]:
    """A row an item; an item that does not fit is named with its probe."""
    kind = probe.section.kind
    try:
        if kind == "perplexity":
            return _read_documents(load(), tokenizer, probe, count)
        if kind == "choices":
            return _choose(load(), tokenizer, probe, count)
        if kind in LIKELIHOODS:
            return safety.score_items(load(), tokenizer, probe.items, probe.section, count)
        asked, settings = _prompts(probe), _greedy(probe, config)
        model = lambda: (load(), tokenizer)  # noqa: E731
        return _answer_rows(probe, sample_answers(folder, asked, 1, settings, name, model, count))
    except UserError as error:
        raise UserError(f"probes.{probe.name}: {error}") from error


def _weight(item: Any) -> int:
    """Steps of an item: one a text that is scored or written."""
    return max(1, len(item.choices))


def probe_elsewhere(probes: Sequence[Probe], config: Config, folder: Path) -> None:
    """The rows of candidates that are no models here.

    One behind an address is asked for the answers of exact_match and xstest; a file of completions brings
    the rows that lie beside it in `probes`, as an earlier evaluation left them, where they are of the same
    items.
    """
    for probe in probes:
        for name, path in config.models.items():
            file = _file(folder, probe, name)
            if _is_done(file, probe):
                continue
            if is_file(path):
                earlier = Path(path).parent / "probes" / probe.name
                if (earlier / f"{name}.jsonl").is_file() and _same(earlier / SETTINGS, probe):
                    rows = read_rows(earlier / f"{name}.jsonl")
                    if _items(rows) == [item.id for item in probe.items]:
                        write_rows(file, rows)
            elif is_endpoint(path) and probe.section.kind in WRITTEN:
                with Steps(f"{name}: {probe.name}", len(probe.items)) as steps:
                    answers = asked_answers(
                        path,
                        _prompts(probe),
                        1,
                        _greedy(probe, config),
                        config.api,
                        folder / "replies" / f"{name}-{probe.name}.jsonl",
                        Counter(steps),
                    )
                write_rows(file, _answer_rows(probe, answers))


def write_settings(probes: Sequence[Probe], folder: Path) -> None:
    """probe.json of every probe, without which its rows could not be read again."""
    for probe in probes:
        with atomic_output(folder / "probes" / probe.name / SETTINGS, overwrite=True) as temporary:
            temporary.write_text(json.dumps(probe.settings, indent=2) + "\n", encoding="utf-8")


def windows(ids: Sequence[int], start: int, window: int) -> list[tuple[list[int], list[int]]]:
    """(context, tokens to score) of a document, each token once; `start` stands before the first.

    What fits into `window` is one row. Of a longer document every further row scores the next window // 2
    tokens, with as many before them as fit: each but the first have half a window of context or more.
    """
    rows = [([start], list(ids[: window - 1]))]
    stride = window // 2
    for at in range(window - 1, len(ids), stride):
        end = min(at + stride, len(ids))
        rows.append((list(ids[end - window : at]), list(ids[at:end])))
    return rows


def _read_documents(model: Any, tokenizer: Any, probe: Probe, count: Counter) -> list[Row]:
    window = probe.section.window
    if window > context_size(model):
        raise UserError(
            f"its window is {window:,}, and {tokenizer.name_or_path} reads "
            f"{context_size(model):,} tokens: make it smaller, for all models the same"
        )
    start = (start_ids(tokenizer) or [any_start(tokenizer)])[0]
    rows = []
    for at in range(0, len(probe.items), 64):  # so many documents at a time, for their windows are many
        some = probe.items[at : at + 64]
        parts = [windows(encode(tokenizer, item.text), start, window) for item in some]
        scored = iter(completion_log_probs(model, [row for part in parts for row in part]))
        for item, part in zip(some, parts, strict=True):
            totals = [next(scored) for _ in part]
            rows.append(
                {
                    "item": item.id,
                    "log_prob": sum(one.total for one in totals),
                    "tokens": sum(one.tokens for one in totals),
                    "bytes": len(item.text.encode("utf-8", "surrogatepass")),
                    "windows": len(part),
                }
            )
        count(len(some))
    return rows


def _choose(model: Any, tokenizer: Any, probe: Probe, count: Counter) -> list[Row]:
    section = probe.section
    asked: list[tuple[Context, Sequence[str]]] = []
    for item in probe.items:
        template = section.template or ("{question}" if section.chat or item.continued else PLAIN)
        text = template.replace("{question}", item.text)
        asked.append(asked_with(text, item.choices, section.chat))
    found = choice_logps(model, tokenizer, asked, progress=count)
    return [
        {
            "item": item.id,
            "question": item.text,
            "choices": list(item.choices),
            "correct": item.correct,
            "log_probs": [one.total for one in row],
            "tokens": [one.tokens for one in row],
        }
        for item, row in zip(probe.items, found, strict=True)
    ]


def _prompts(probe: Probe) -> list[Prompt]:
    template = probe.section.template or "{question}"
    return [
        Prompt(item.id, [{"role": "user", "content": template.replace("{question}", item.text)}], item.id)
        for item in probe.items
    ]


def _greedy(probe: Probe, config: Config) -> GenerationSection:
    greedy = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": probe.section.max_new_tokens}
    return config.generation.model_copy(update=greedy)


def _answer_rows(probe: Probe, answers: Answers) -> list[Row]:
    if probe.section.kind == "xstest":
        return safety.answered(probe.items, answers)
    return [
        {
            "item": item.id,
            "question": item.text,
            "answers": list(item.answers),
            "text": row[0].text,
            "finished": row[0].finished,
        }
        for item, row in zip(probe.items, answers, strict=True)
    ]


def _file(folder: Path, probe: Probe, name: str) -> Path:
    return folder / "probes" / probe.name / f"{name}.jsonl"


def _is_done(file: Path, probe: Probe) -> bool:
    """Whether the file holds the rows of this probe. Raises UserError where it holds those of other items."""
    if not file.exists():
        return False
    if _items(read_rows(file)) != [item.id for item in probe.items]:
        raise UserError(
            f"{file} was measured on other items than {', '.join(probe.section.files)} has now: put the "
            "files back, or start anew with --overwrite"
        )
    return True


def _items(rows: Sequence[Row]) -> list[str]:
    return [row["item"] for row in rows]


def _same(settings: Path, probe: Probe) -> bool:
    """Whether rows were measured with this probe's settings, wherever its files lie now."""
    free = {"files": None}
    return json.loads(settings.read_text(encoding="utf-8")) | free == probe.settings | free
