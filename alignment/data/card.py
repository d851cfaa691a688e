"""The card of a published dataset: README.md with the front matter that the hub and `datasets` read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Written
from alignment.data.quality import Statistics
from alignment.data.records import Record, features

_SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6, "1M<n<10M": 1e7}


def count_licenses(records: Iterable[Record], licenses: Counter[str | None]) -> Iterator[Record]:
    """The records, with what their meta.license says counted on the way."""
    for record in records:
        stated = record.meta.get("license")
        licenses[None if stated is None else str(stated)] += 1
        yield record


def card_license(stated: str | None, licenses: Counter[str | None]) -> tuple[str, str]:
    """The hub's identifier, and a sentence: as stated, else the records' own if all have the same."""
    if stated is not None:
        return stated, f"`{_plain(stated)}`, as stated by who published it."
    if not licenses.keys() - {None}:
        return "unknown", "No record states a licence, and none was given."
    if len(licenses) == 1:
        (name,) = licenses
        return str(name).lower(), f"`{_plain(name)}`, as every record states in `meta.license`."
    listed = ", ".join(
        f"{'not stated' if name is None else f'`{_plain(name)}`'} ({count:,} records)"
        for name, count in licenses.most_common(10)
    )
    return "other", f"The records have several, each in its `meta.license`: {listed}."


def dataset_card(
    repo_id: str, written: Written, found: Statistics, licenses: Counter[str | None], license_: str | None
) -> str:
    """The whole text of README.md for records that are in data/train-*.parquet."""
    import yaml
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    identifier, sentence = card_license(license_, licenses)
    tags = ["alignkit", "human-feedback", "preferences"] if found.judgments else ["alignkit"]
    front = DatasetCardData(
        license=identifier,
        task_categories=["text-generation"],
        size_categories=[_size(written.rows)],
        tags=tags,
        configs=[
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
        ],
    )
    DatasetInfosDict({"default": DatasetInfo(features=features())}).to_dataset_card_data(front)
    text = yaml.safe_dump(front.to_dict(), sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n\n{_body(repo_id, written, found, sentence)}"


def _size(rows: int) -> str:
    return next((name for name, limit in _SIZES.items() if rows < limit), "n>10M")


def _plain(text: str | None) -> str:
    """Data inside a code span: what would end the span or the line is gone."""
    return " ".join(str(text).replace("`", "'").split())


def _body(repo_id: str, written: Written, found: Statistics, license_: str) -> str:
    name = repo_id.rpartition("/")[2]
    return f"""# {name}

Prompts, the completions that were offered for them, and the judgments made of these, in the dataset format
of alignkit. A row is a prompt with all its completions and the raw judgments, one for each judge; preference
pairs are derived from them, not stored.

<!-- Say here where the prompts, completions and judgments are from, who the judges were and what they were
asked, and what the dataset is good for and what not. -->

## Load it

```python
from datasets import load_dataset

rows = load_dataset("{repo_id}", split="train")
```

```sh
alignkit data pull {repo_id} {name}.jsonl
alignkit data view pairs {name}.jsonl pairs.jsonl
```

## What is in it

| | |
|---|---|
{_table(_counts(written, found))}

Length is in characters.

{_biases(found)}

## Personal data

**The publisher has not said whether this dataset was checked for personal data.** The names of the judges are
in `judgments[].by`. Say here what was looked for, what was found, and what was removed.

## Licence

{license_}
"""


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def _counts(written: Written, found: Statistics) -> list[tuple[str, str]]:
    plain = found.as_dict()
    rows = [
        ("records", f"{found.rows:,}"),
        ("different prompts", f"{found.prompts:,}"),
        ("completions", f"{found.completions:,} ({found.empty_completions:,} empty)"),
        ("demonstrations", f"{found.demonstrations:,}"),
        ("judgments", f"{found.judgments:,} ({found.all_bad:,} call all completions bad)"),
        ("judges", _judges(found)),
        ("stated preferences", f"{found.pairs:,}"),
        ("ties", f"{found.ties:,}"),
    ]
    for kind in ("prompt", "completion"):
        length = plain[f"{kind}_lengths"]
        if length:
            said = f"mean {length['mean']:,.0f}, median {length['median']:,.0f}, longest {length['max']:,}"
            rows.append((f"length of a {kind}", said))
    return [*rows, ("fingerprint", f"`{written.fingerprint}`")]


def _judges(found: Statistics) -> str:
    """How many, never who: their names may be people's."""
    named = [count for name, count in found.judges.items() if name != "(anonymous)"]
    parts = []
    if named:
        parts.append(f"{len(named):,}, each with {min(named):,} to {max(named):,} judgments")
    if anonymous := found.judges["(anonymous)"]:
        parts.append(f"{anonymous:,} judgments are anonymous")
    return "; ".join(parts) or "none"


_SHARES = {
    "longer_wins": "the longer completion is preferred",
    "first_shown_wins": "the completion shown first is preferred",
    "first_stored_wins": "the completion stored first is preferred",
    "agreement": "two judges agree, ties counted",
    "agreement_without_ties": "two judges agree, ties left out",
}


def _biases(found: Statistics) -> str:
    plain: dict[str, Any] = found.as_dict()
    rows = [
        f"| {title} | {share['value']:.3f} | {share['low']:.3f} to {share['high']:.3f} | {share['n']:,} |"
        for key, title in _SHARES.items()
        if (share := plain[key])
    ]
    if not rows:
        return "There is no preference from which a bias could be told."
    head = "| how often | share | 95% interval | of |\n|---|---|---|---|"
    return f"## Biases and agreement\n\n{head}\n" + "\n".join(rows)
