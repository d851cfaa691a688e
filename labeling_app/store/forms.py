"""What a project's board asks for: checked when a project is made, and again for every judgment that comes.

`projects.asks` is "ranking" (two to eight outputs), "pair" (A or B) or "ratings" (every output on scales;
ranks are then optional). `projects.form` adds scales, a rationale, a rewrite and, for pairs, a strength.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from alignment.errors import UserError
from labeling_app.store.queue import Refusal

Asks = Literal["ranking", "pair", "ratings"]
MAX_DIMENSIONS = 8
MAX_POINTS = 11  # of a scale: 0 to 10
MAX_REASON = 2_000  # characters
MAX_RATIONALE = 20_000
MAX_REWRITE = 200_000
Ratings = dict[str, list[int | None]]
T = TypeVar("T")


class Dimension(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A scale of whole numbers from `low` to `high`; the labels are for the screen."""

    name: str
    label: str = ""
    low: int = 1
    high: int = 5
    low_label: str = ""
    high_label: str = ""


class Form(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is asked beside the ranks. strength: steps from a tie to the strongest preference; 0 is none."""

    dimensions: list[Dimension] = []
    rationale: Literal["no", "optional", "required"] = "no"
    rewrite: bool = False
    strength: Literal[0, 1, 2, 3] = 0


def parse_form(asks: str, form: dict[str, Any] | None) -> Form:
    """The form of a project, checked. Raises UserError that names the key that is wrong."""
    if asks not in ("ranking", "pair", "ratings"):
        raise UserError(f'asks: "{asks}" is none of ranking, pair, ratings')
    try:
        parsed = msgspec.convert(form or {}, Form)
    except msgspec.ValidationError as error:
        raise UserError(f"the form is wrong: {error}") from None
    if len(parsed.dimensions) > MAX_DIMENSIONS:
        raise UserError(
            f"the form has {len(parsed.dimensions)} dimensions; at most {MAX_DIMENSIONS} fit a page"
        )
    if asks == "ratings" and not parsed.dimensions:
        raise UserError("ratings need at least one dimension in the form")
    if asks != "pair" and parsed.strength:
        raise UserError("strength is for pair projects; rate the outputs with dimensions instead")
    names = [dimension.name for dimension in parsed.dimensions]
    for dimension in parsed.dimensions:
        _check_dimension(dimension)
        if names.count(dimension.name) > 1:
            raise UserError(f'the form has two dimensions called "{dimension.name}"')
    return parsed


def _check_dimension(dimension: Dimension) -> None:
    name = dimension.name
    if not name.strip() or len(name) > 40:
        raise UserError(f'dimension "{name}": a name has 1 to 40 characters')
    if not 0 <= dimension.low < dimension.high:
        raise UserError(f'dimension "{name}": low must be 0 or more, and less than high')
    if dimension.high > 10 or dimension.high - dimension.low >= MAX_POINTS:
        raise UserError(f'dimension "{name}": high is at most 10')
    if any(len(text) > 80 for text in (dimension.label, dimension.low_label, dimension.high_label)):
        raise UserError(f'dimension "{name}": a label has at most 80 characters')


def check_ranks(asks: str, ranks: list[int | None] | None, all_bad: bool, k: int) -> list[int | None] | None:
    """Ranks as they are stored: 1, 2, 3 … without gaps; None where nothing was ranked. Raises Refusal 422."""
    if ranks is not None and len(ranks) != k:
        raise Refusal(422, f"There are {k} outputs, and {len(ranks)} ranks came.")
    empty = ranks is None or all(rank is None for rank in ranks)
    complete = ranks is not None and None not in ranks
    if asks == "ratings" and not (empty or complete):
        raise Refusal(422, "Rank every output, or none.")
    if asks != "ratings" and not complete and not all_bad:
        raise Refusal(422, "Every output needs a rank, unless all are bad.")
    if ranks is None or empty:
        return None
    levels = sorted({rank for rank in ranks if rank is not None})
    if levels[0] < 1:
        raise Refusal(422, "The best rank is 1.")
    return [None if rank is None else levels.index(rank) + 1 for rank in ranks]


def check_strength(
    asks: str, form: Form, strength: int | None, ranks: list[int | None] | None, all_bad: bool
) -> int | None:
    """How much better one of a pair is, 1 to form.strength; None for a tie and where none is asked."""
    decided = ranks is not None and len(ranks) == 2 and None not in ranks and ranks[0] != ranks[1]
    if asks != "pair" or not form.strength or not decided:
        if strength is not None:
            raise Refusal(
                422, "A strength belongs to a pair of which one is better, in a project that asks it."
            )
        return None
    if strength is None and all_bad:
        return None
    if strength is None or not 1 <= strength <= form.strength:
        raise Refusal(422, f"Say how much better: the strength is 1 to {form.strength}.")
    return strength


def check_ratings(asks: str, form: Form, ratings: Ratings | None, all_bad: bool, k: int) -> Ratings | None:
    """One whole number on the scale for every dimension and output; all bad makes them optional, save where
    ratings are what is asked."""
    given = ratings or {}
    unknown = given.keys() - {dimension.name for dimension in form.dimensions}
    if unknown:
        raise Refusal(422, f'This project asks for no "{min(unknown)}"; load the page again.')
    stored: Ratings = {}
    for dimension in form.dimensions:
        values = given.get(dimension.name) or [None] * k
        label = dimension.label or dimension.name
        if len(values) != k:
            raise Refusal(422, f'There are {k} outputs, and {len(values)} ratings came for "{label}".')
        if None in values and not (all_bad and asks != "ratings"):
            raise Refusal(422, f'Every output needs a rating for "{label}".')
        if any(value is not None and not dimension.low <= value <= dimension.high for value in values):
            raise Refusal(422, f'"{label}" goes from {dimension.low} to {dimension.high}.')
        if values != [None] * k:
            stored[dimension.name] = values
    return stored or None


def check_rationale(form: Form, rationale: str | None) -> str | None:
    """The reasons in the annotator's words, None if there are none. They are kept where nobody asked, too."""
    words = (rationale or "").strip()
    if form.rationale == "required" and not words:
        raise Refusal(422, "Say why: this project asks for a reason.")
    if len(words) > MAX_RATIONALE:
        raise Refusal(422, f"A reason has at most {MAX_RATIONALE:,} characters.")
    return words or None


def check_rewrite(form: Form, rewrite: dict[str, Any] | None, k: int) -> dict[str, Any] | None:
    """{"from": ordinal of the output it started from, "text": the better answer}, or None."""
    if rewrite is None:
        return None
    if not form.rewrite:
        raise Refusal(422, "This project asks for no better answer; load the page again.")
    if not 0 <= rewrite["from"] < k or not rewrite["text"].strip() or len(rewrite["text"]) > MAX_REWRITE:
        raise Refusal(422, f"A better answer has 1 to {MAX_REWRITE:,} characters and starts from an output.")
    return {"from": rewrite["from"], "text": rewrite["text"]}


def by_ordinal(shown: list[T], order: list[int], what: str) -> list[T]:
    """Values given in the order of the screen, put into the record's order. Raises Refusal 422 on length."""
    if len(shown) != len(order):
        raise Refusal(422, f"There are {len(order)} outputs, and {len(shown)} {what} came.")
    placed = dict(zip(order, shown, strict=True))
    return [placed[ordinal] for ordinal in range(len(order))]
