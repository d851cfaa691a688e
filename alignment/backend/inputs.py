"""From the `data:` section of a stage to the rows its trainer eats; what is left out is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from alignment.backend.config import DataSection
from alignment.data.detect import check_native
from alignment.data.files import read_records
from alignment.data.mixtures import drawn, draws, interleaved, priorities, quotas
from alignment.data.records import Record
from alignment.data.splits import split
from alignment.data.views import VIEWS
from alignment.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]
NEEDS = {
    "messages": "a reply to learn from, as this stage needs: a completion that is a demonstration, or ranked "
    "best, or the only one",
    "prompts": "a prompt, as this stage needs",
    "pairs": "a pair that this stage needs: two completions, one of them ranked above the other",
    "rankings": "a ranking that this stage needs: two completions or more, and a judgment of them",
    "unpaired": "what this stage needs: a completion that a judge labelled good or bad; of rankings "
    "labels=pairs makes such labels",
}
"""What a file must hold for each view, as it is told where no row of it does."""


class StageRows(NamedTuple):
    """Rows of a view for training and validation, and how many records were left out, by reason.

    sources: of a mixture, each source's path, weight, rows, and how many rows were taken of it for training;
    empty for plain paths.
    """

    train: list[Row]
    validation: list[Row]
    left_out: dict[str, int]
    sources: list[dict[str, Any]]

    def lineage(self) -> dict[str, Any]:
        """What run.json says of a mixture's sources, beside their fingerprints; nothing of plain paths."""
        return {"sources": self.sources} if self.sources else {}


def stage_rows(data: DataSection, view: str, **options: Any) -> StageRows:
    """Read the rows of `view` ("messages", "prompts", "pairs", …) that `data` names.

    Plain paths are one dataset, in order. A mixture makes the view of each source, and draws rows of it (see
    mixtures.py). Validation rows come from `data.validation`, or are those of a share of the prompts (no
    prompt is on both sides), in a mixture by the same weights. `options` go to the view (`margin` of pairs).
    Raises UserError when a side that was asked for has no row, or a source too few.
    """
    try:
        return _rows(data, view, options)
    except UserError:
        check_native(data.paths())  # what is of another format is told so, with the command that helps
        raise


def _rows(data: DataSection, view: str, options: Row) -> StageRows:
    if view == "pairs":
        options["how"] = data.how
    counts: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    if all(isinstance(entry, str) for entry in data.train):
        train, validation = _sides(data, view, options, data.train_paths(), counts, unseen, data.max_rows)
        sources: list[dict[str, Any]] = []
    else:
        train, validation, sources = _mixture(data, view, options, counts, unseen)
    if data.validation:
        validation = list(VIEWS[view](read_records(data.validation), counts=unseen, **options))
    if not train:
        raise UserError(_empty(", ".join(data.train_paths()), view, counts))
    if not validation and (data.validation or data.validation_fraction):
        raise UserError(_empty(", ".join(data.validation) or "data.validation_fraction", view, unseen))
    return StageRows(train, validation, dict(counts), sources)


def _sides(
    data: DataSection,
    view: str,
    options: Row,
    paths: list[str],
    counts: Counter[str],
    unseen: Counter[str],
    most: int | None = None,
) -> tuple[list[Row], list[Row]]:
    """Rows of these paths, at most so many, and those of the prompts held out of them."""
    records: Iterable[Record] = read_records(paths)
    held_out: Iterable[Record] = []
    if data.validation_fraction:
        # Always with the same seed: what one stage holds out no other stage trains on.
        records, held_out = split(records, data.validation_fraction)
    fewer = {"most": data.pairs_per_prompt} if view == "pairs" else {}
    train = islice(VIEWS[view](records, counts=counts, **options, **fewer), most)
    return list(train), list(VIEWS[view](held_out, counts=unseen, **options))


def _mixture(
    data: DataSection, view: str, options: Row, counts: Counter[str], unseen: Counter[str]
) -> tuple[list[Row], list[Row], list[dict[str, Any]]]:
    """Training rows and held-out rows by weight, and what was taken of each source."""
    sources = data.train_sources()
    names = data.train_paths()
    sides = [_sides(data, view, options, [name], counts, unseen) for name in names]
    train, held_out = [side[0] for side in sides], [side[1] for side in sides]
    sizes = [len(rows) for rows in train]
    train = [
        _drawn(rows, min(source.max_rows or len(rows), len(rows)), data.seed)
        for rows, source in zip(train, sources, strict=True)
    ]
    there = [len(rows) for rows in train]
    # Without weights a source's rows are its share.
    weights = [source.weight or max(size, 1) for source, size in zip(sources, there, strict=True)]
    total = data.max_rows
    if sources[0].weight is None and total is not None:
        total = min(total, sum(there))
    taken = quotas(names, there, weights, total, [source.repeat for source in sources])
    unused = sum(size - min(size, count) for size, count in zip(sizes, taken, strict=True))
    if unused:
        counts["not drawn for the mixture"] += unused
    listing = [
        {"path": source.path, "weight": source.weight, "rows": size, "taken": count}
        for source, size, count in zip(sources, sizes, taken, strict=True)
    ]
    validation: list[Row] = []
    if data.validation_fraction:
        validation = _mixed(held_out, quotas(names, [len(rows) for rows in held_out], weights), data.seed)
    return _mixed(train, taken, data.seed), validation, listing


def _mixed(sources: list[list[Row]], counts: list[int], seed: int) -> list[Row]:
    streams = [_drawn(rows, count, seed) for rows, count in zip(sources, counts, strict=True)]
    return list(interleaved(streams, counts))


def _drawn(rows: list[Row], count: int, seed: int) -> list[Row]:
    return list(drawn(lambda: rows, draws(priorities((row["id"] for row in rows), seed), count)))


def dataset(rows: list[Row], columns: Sequence[str]) -> Dataset | None:
    """Those columns that the rows have, as the Dataset a TRL trainer takes; None for no rows.

    Trainers are given only what they read: TRL changes its loss on seeing some names (margin). As JSON every
    row stays as it is: Arrow's structs would give each message the keys of all others, as nulls.
    """
    from datasets import Dataset, Features, Json

    if not rows:
        return None
    kept = [column for column in columns if any(column in row for row in rows)]
    features = Features({column: Json() for column in kept})
    return Dataset.from_list(
        [{column: row.get(column) for column in kept} for row in rows], features=features
    )


def counted(counts: dict[str, int], left_out: dict[str, int]) -> str:
    """What the rows hold, to be seen before anything is trained: counts of preflight and of the view."""
    truncated = f", {counts['truncated']} cut to max_length" if counts["truncated"] else ""
    if counts.get("merged"):
        truncated += f", {counts['merged']} in which a token spans prompt and completion"
    reasons = "".join(f", {count} left out ({reason})" for reason, count in left_out.items())
    return (
        f"{counts['rows']} rows of {counts['tokens']} tokens, longest {counts['longest']}{truncated}{reasons}"
    )


def _empty(source: str, view: str, counts: Counter[str]) -> str:
    reasons = ", ".join(f"{count} × {reason}" for reason, count in counts.most_common())
    return f"{source}: no record has {NEEDS[view]} ({reasons or 'no record'})"
