"""Label Studio's results (pairwise, ranker, rating, choices, textarea) and the judgment that they state."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from alignment.data.formats import annotation
from alignment.data.formats.foreign import Row
from alignment.data.records import Comparison, Judgment, shown
from alignment.errors import UserError

VALUE_KEYS = {
    "pairwise": "selected", "ranker": "ranker", "rating": "rating", "choices": "choices", "textarea": "text",
}  # fmt: skip
_PLACES = {"best": 1, "top": 1, "chosen": 1, "preferred": 1, "better": 2, "good": 2}
_PLACES |= {
    "ok": 3,
    "okay": 3,
    "average": 3,
    "neutral": 3,
    "medium": 3,
    "bad": 4,
    "worse": 4,
    "rejected": 4,
    "worst": 5,
}


class Heard(msgspec.Struct):
    """What one annotation says: its judgment, and replies that the annotator wrote, by control."""

    judgment: Judgment
    corrections: dict[str, str] = {}


def read_results(results: list[Row], names: list[str], by: str | None, where: str) -> list[Heard]:
    """The judgments in one annotation: one, and one more for each further order of the replies.

    names: of the replies, what a result may call them: the fields of `data`, or the ids of a list.
    Raises UserError for a comparison or an order that names something else.
    """
    heard = [Heard(Judgment(by=by))]
    for result in results:
        kind, value = str(result.get("type")), result.get("value")
        if kind not in VALUE_KEYS or not isinstance(value, dict) or VALUE_KEYS[kind] not in value:
            if kind in ("pairwise", "ranker"):
                raise UserError(f'{where}: a result of type "{kind}" has no "{VALUE_KEYS[kind]}"')
            continue
        said, control, to = (
            value[VALUE_KEYS[kind]],
            str(result.get("from_name", kind)),
            str(result.get("to_name")),
        )
        if kind in ("pairwise", "ranker"):
            order = Judgment(by=by)
            place = f"{where}: {control}"
            (_read_pairwise if kind == "pairwise" else _read_ranker)(order, said, to, names, place)
            _add_order(heard, order)
        elif kind == "rating":
            _read_rating(heard[0].judgment, said, control, to, names)
        elif kind == "choices":
            picked = said if isinstance(said, list) else [said]
            if len(picked) == 1 and isinstance(picked[0], str):
                question = control if to not in names or len(names) == 1 else f"{control}-{to}"
                annotation.choose(heard[0].judgment, question, picked[0], names)
        else:
            lines = said if isinstance(said, list) else [said]
            _read_text(heard[0], "\n".join(map(str, lines)), control, names)
    return heard


def _add_order(heard: list[Heard], order: Judgment) -> None:
    """Add an order to the annotation's judgment; where that has one already, as a further judgment."""
    first = heard[0].judgment
    if order.ranks is None and order.comparisons is None:
        return
    if first.ranks is None and order.ranks is not None and first.comparisons is None:
        first.ranks = order.ranks
    elif first.ranks is None and order.comparisons is not None:
        pairs = {frozenset((c.a, c.b)) for c in first.comparisons or ()}
        if any(frozenset((c.a, c.b)) in pairs for c in order.comparisons):
            heard.append(Heard(order))
        else:
            first.comparisons = [*(first.comparisons or []), *order.comparisons]
    else:
        heard.append(Heard(order))


def _read_pairwise(order: Judgment, said: Any, to: str, names: list[str], where: str) -> None:
    sides = [annotation.named_completion(name.strip(), names) for name in to.split(",")]
    left, right = (sides[0], sides[1]) if len(sides) == 2 and None not in sides else (0, 1)
    if len(names) < 2 or left is None or right is None:
        raise UserError(f"{where}: a comparison needs two replies; the task has {len(names)}")
    if said in ("none", None):
        return
    best = {"left": left, "right": right}.get(str(said), annotation.named_completion(said, names))
    if best not in (left, right):
        raise UserError(f'{where}: "selected" is {said!r}; it must be "left" or "right"')
    if len(names) == 2:
        order.ranks = [1 + (index != best) for index in range(2)]
    else:
        order.comparisons = [Comparison(best, left + right - best)]


def _read_ranker(order: Judgment, said: Any, to: str, names: list[str], where: str) -> None:
    """A list of ids, best first; or buckets of them.

    One bucket is such a list. Buckets called by number or by worth ("rank 1", "best", "bad") are tie groups;
    of others the order is within each. "_" holds what was left where it lay: it is not judged beside others.
    """
    buckets = {"_": said} if isinstance(said, list) else said
    if not isinstance(buckets, dict) or not all(isinstance(ids, list) for ids in buckets.values()):
        raise UserError(f'{where}: "ranker" must be a list of ids, or buckets with such lists')
    placed = {name: [_item(item, names, where) for item in ids] for name, ids in buckets.items()}
    if len(placed) > 1:
        placed.pop("_", None)
    everything = [index for ids in placed.values() for index in ids]
    if len(set(everything)) != len(everything):
        raise UserError(f'{where}: "ranker" has a reply twice')
    places = {name: _place(name) for name in placed}
    numbers = [place for place in places.values() if place is not None]
    numbered = len(numbers) == len(placed) and len(set(numbers)) == len(numbers)
    if numbered and numbers and (len(placed) > 1 or not isinstance(said, list)) and "_" not in placed:
        order.ranks = [None] * len(names)
        for name, ids in placed.items():
            for index in ids:
                order.ranks[index] = places[name]
    elif len(placed) == 1 and everything:
        order.ranks = [
            everything.index(index) + 1 if index in everything else None for index in range(len(names))
        ]
    elif any(len(ids) > 1 for ids in placed.values()):
        order.comparisons = [
            Comparison(better, worse)
            for ids in placed.values()
            for k, better in enumerate(ids)
            for worse in ids[k + 1 :]
        ]


def _item(item: Any, names: list[str], where: str) -> int:
    name = str(item.get("id") if isinstance(item, dict) else item)
    if name not in names:
        listed = ", ".join(f'"{shown(known)}"' for known in names)
        raise UserError(f'{where}: the order names "{name}", which is none of the replies {listed}')
    return names.index(name)


def _place(bucket: str) -> int | None:
    number = re.fullmatch(r"\D*(\d{1,9})", bucket)
    if number and int(number.group(1)) > 0:
        return int(number.group(1))
    found = [_PLACES[word] for word in annotation.words(bucket).split() if word in _PLACES]
    return found[0] if len(found) == 1 else None


def _read_rating(judgment: Judgment, said: Any, control: str, to: str, names: list[str]) -> None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return
    if to in names:
        ratings = dict(judgment.ratings or {})
        values: list[float | None] = list(ratings.get(control, [None] * len(names)))
        if values[names.index(to)] is None:
            values[names.index(to)] = float(said)
            judgment.ratings = {**ratings, control: values}
    else:
        annotation.rate(judgment, control, said, names)


def _read_text(heard: Heard, text: str, control: str, names: list[str]) -> None:
    if annotation.RATIONALE.search(control):
        if heard.judgment.rationale is None:
            heard.judgment.rationale = text
    elif (not names or annotation.CORRECTION.search(control)) and control not in heard.corrections:
        heard.corrections = {**heard.corrections, control: text}


def usual_results(judgment: Judgment, corrections: dict[str, str], names: list[str]) -> list[Row]:
    """A judgment as results of controls with usual names."""
    found: list[Row] = []

    def add(kind: str, control: str, to: str, value: Any) -> None:
        found.append({"from_name": control, "to_name": to, "type": kind, "value": {VALUE_KEYS[kind]: value}})

    ranks = list(judgment.ranks or [])[: len(names)]
    if len(names) == 2 and ranks in ([1, 2], [2, 1]):
        add("pairwise", "comparison", "comparison", "left" if ranks == [1, 2] else "right")
    elif any(rank is not None for rank in ranks):
        groups = sorted({rank for rank in ranks if rank is not None})
        buckets = {
            f"rank-{g}": [n for n, rank in zip(names, ranks, strict=False) if rank == g] for g in groups
        }
        add("ranker", "rank", "items", buckets)
    if judgment.comparisons and len(names) > 2 and not judgment.ranks:
        best = judgment.comparisons[0].a
        others = [Comparison(best, other) for other in range(len(names)) if other != best]
        if judgment.comparisons == others:
            add("choices", "choice", "items", [names[best]])
    if judgment.all_bad and len(names) > 1:
        add("choices", "choice", "items", ["neither"])
    for key, ratings in (judgment.ratings or {}).items():
        for name, rating in zip(names, ratings, strict=False):
            if rating is not None:
                add("rating", key, name, int(rating) if rating == int(rating) else rating)
    for name, label in zip(names, judgment.labels or (), strict=False):
        if label is not None:
            add("choices", "label", name, ["good" if label else "bad"])
    if judgment.rationale is not None:
        add("textarea", "rationale", "prompt", [judgment.rationale])
    for control, text in corrections.items():
        add("textarea", control, "prompt", [text])
    return found
