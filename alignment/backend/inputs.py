"""From the `data:` section of a stage to the rows its trainer eats; what is left out is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from alignment.backend.config import DataSection
from alignment.data.files import read_records
from alignment.data.records import Record
from alignment.data.splits import split
from alignment.data.views import VIEWS
from alignment.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]


class StageRows(NamedTuple):
    """Rows of a view for training and validation, and how many records were left out, by reason."""

    train: list[Row]
    validation: list[Row]
    left_out: dict[str, int]


def stage_rows(data: DataSection, view: str, **options: Any) -> StageRows:
    """Read the rows of `view` ("messages", "prompts", "pairs", …) that `data` names.

    Validation rows come from `data.validation`, or are those of a share of the prompts (no prompt is on both
    sides). `options` go to the view (`margin` of pairs). Raises UserError when a side that was asked for has
    no row.
    """
    if view == "pairs":
        options["how"] = data.how
    counts: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    records: Iterable[Record] = read_records(data.train)
    held_out: Iterable[Record] = read_records(data.validation) if data.validation else []
    if data.validation_fraction:
        # Always with the same seed: what one stage holds out no other stage trains on.
        records, held_out = split(records, data.validation_fraction)
    fewer = {"most": data.pairs_per_prompt} if view == "pairs" else {}
    train = list(islice(VIEWS[view](records, counts=counts, **options, **fewer), data.max_rows))
    validation = list(VIEWS[view](held_out, counts=unseen, **options))
    if not train:
        raise UserError(_empty(", ".join(data.train), view, counts))
    if not validation and (data.validation or data.validation_fraction):
        raise UserError(_empty(", ".join(data.validation) or "data.validation_fraction", view, unseen))
    return StageRows(train, validation, dict(counts))


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
    return f"{source}: no row for the view {view!r} that this stage needs ({reasons or 'no record'})"
