"""Known answers: how near a judgment is to one, what a person is told, and how often each person is right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, RowMapping, select, true, update

from alignment.data.records import Judgment, Record, record_id
from alignment.errors import UserError
from alignment.stats.intervals import Interval, binomial_interval
from labeling_app.store import audit, enrolment
from labeling_app.store.models import annotators, assignments, judgments, projects, tasks
from labeling_app.store.queue import UNLIMITED

RATING_SLACK = 1  # a rating is right if it is no further than this from the known one


@dataclass(frozen=True)
class Score:
    """`right` of `of` comparisons are as the known answer has them; `share` is between 0 and 1."""

    right: int
    of: int

    @property
    def share(self) -> float:
        return self.right / self.of if self.of else 1.0

    @property
    def exact(self) -> bool:
        """Everything is right: the same order with the same ties."""
        return self.right == self.of


def score(
    known: Mapping[str, Any],
    ranks: Sequence[int | None] | None,
    all_bad: bool = False,
    ratings: Mapping[str, Sequence[float | None]] | None = None,
) -> Score:
    """How near a judgment is to the known answer; every list has one entry per output, in the same order.

    If the known answer is {"all_bad": true}, one thing is asked: was it called all bad? Otherwise every pair
    of outputs that `known["ranks"]` orders (1 is best, equal is a tie, null is not known) is a comparison,
    and it is right if the judgment says the same: better, worse, or a tie. An output without a rank is wrong
    in each of its pairs. Every known rating is one more comparison, right within RATING_SLACK.
    """
    if known.get("all_bad"):
        return Score(int(all_bad), 1)
    right = of = 0
    wanted = known.get("ranks") or []
    given = ranks or [None] * len(wanted)
    for i, j in combinations(range(len(wanted)), 2):
        if wanted[i] is None or wanted[j] is None:
            continue
        of += 1
        right += _order(given[i], given[j]) == _order(wanted[i], wanted[j])
    for name, values in (known.get("ratings") or {}).items():
        said = (ratings or {}).get(name) or [None] * len(values)
        for value, answer in zip(values, said, strict=True):
            if value is not None:
                of += 1
                right += answer is not None and abs(answer - value) <= RATING_SLACK
    return Score(right, of)


def feedback(
    tx: Connection, assignment: RowMapping, judgment: RowMapping, repeated: bool, now: datetime
) -> dict[str, Any] | None:
    """What the person is told about a judgment just stored, None for an ordinary or a silent gold task.

    `assignment` is as it was before the judgment was stored; `repeated`: it was stored by an earlier request.
    Otherwise the judgment of a practice task also counts for the round. The answer holds kind ("practice" or
    "gold"), right (everything is), score (0 to 1), expected (the known ranks in the order on the screen;
    None: all are bad), ratings likewise, explanation (Markdown or None), and for practice {"number", "of"}.
    """
    task = tx.execute(
        select(tasks, projects.c.gold_feedback)
        .join(projects, projects.c.id == tasks.c.project_id)
        .where(tasks.c.id == assignment["task_id"])
    ).one()
    known = task.gold
    if known is None or not (task.is_practice or (task.is_gold and task.gold_feedback)):
        return None
    result = _scored(known, judgment)
    order = assignment["presented_order"]
    told: dict[str, Any] = {
        "kind": "practice" if task.is_practice else "gold",
        "right": result.exact,
        "score": round(result.share, 4),
        "expected": [known["ranks"][ordinal] for ordinal in order] if known.get("ranks") else None,
        "ratings": {
            name: [values[ordinal] for ordinal in order]
            for name, values in (known.get("ratings") or {}).items()
        },
        "explanation": known.get("explanation"),
    }
    if task.is_practice:
        who, where = assignment["annotator_id"], task.project_id
        if repeated:
            place = enrolment.place_of(tx, who, where)
        else:
            place = enrolment.count_practice(tx, now, who, where, result.share)
        told["practice"] = {"number": place.practice_done, "of": place.practice}
    return told


@dataclass(frozen=True)
class Accuracy:
    """One person on the gold tasks of a project. `exact` has Wilson's interval over tasks; `share` is the
    mean share of comparisons that were right."""

    annotator_id: int
    public_id: str
    login: str
    exact: Interval
    share: float


def accuracy(connection: Connection, project_id: int) -> list[Accuracy]:
    """How often each person gave the known answer to gold tasks, by login; practice does not count.

    The first judgment of a task counts, not what it was edited to. People without a gold task are left out.
    """
    rows = connection.execute(
        select(
            assignments.c.annotator_id,
            annotators.c.public_id,
            annotators.c.login,
            tasks.c.gold,
            judgments.c.ranks,
            judgments.c.both_bad,
            judgments.c.ratings,
        )
        .select_from(tasks)
        .join(assignments, assignments.c.task_id == tasks.c.id)
        .join(judgments, judgments.c.assignment_id == assignments.c.id)
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .where(tasks.c.project_id == project_id, tasks.c.is_gold == true(), judgments.c.revision == 1)
        .order_by(annotators.c.login)
    ).mappings()
    people: dict[int, tuple[RowMapping, list[Score]]] = {}
    for row in rows:
        people.setdefault(row["annotator_id"], (row, []))[1].append(_scored(row["gold"] or {}, row))
    return [
        Accuracy(
            annotator_id=row["annotator_id"],
            public_id=row["public_id"],
            login=row["login"],
            exact=binomial_interval(sum(one.exact for one in scores), len(scores)),
            share=sum(one.share for one in scores) / len(scores),
        )
        for row, scores in people.values()
    ]


def known_answer(record: Record, where: str) -> dict[str, Any]:
    """The known answer that a record holds: its only judgment, with the rationale as the explanation.

    Raises UserError naming `where` if there is none, several, or one that orders nothing.
    """
    if len(record.judgments) != 1:
        raise UserError(
            f"{where} has {len(record.judgments)} judgments; a task with a known answer has exactly one, "
            "which is the answer"
        )
    judgment = record.judgments[0]
    answer = _answer(judgment)
    if not answer:
        raise UserError(
            f"{where}: its judgment has no ranks, no all_bad and no ratings, so there is no answer"
        )
    if judgment.rationale and judgment.rationale.strip():
        answer["explanation"] = judgment.rationale
    return answer


def mark(
    tx: Connection, now: datetime, actor: str, project_id: int, records: Iterable[Record], *, practice: bool
) -> int:
    """Make tasks that are there, known by their records' ids, gold (or practice) tasks; returns how many.

    They are then given to everybody once, beside the queue, and count for no overlap.
    """
    count = 0
    for number, record in enumerate(records, start=1):
        answer = known_answer(record, f'record {number} ("{record_id(record)}")')
        mine = (tasks.c.project_id == project_id) & (tasks.c.external_id == record_id(record))
        values = {
            "gold": answer,
            "is_gold": not practice,
            "is_practice": practice,
            "n_required": UNLIMITED,
            "status": "open",
        }
        count += tx.execute(update(tasks).where(mine).values(**values)).rowcount
    after = {"tasks": count, "kind": "practice" if practice else "gold"}
    audit.append(tx, now, actor, "gold", f"project/{project_id}", after=after)
    return count


def _answer(judgment: Judgment) -> dict[str, Any]:
    if judgment.all_bad:
        return {"all_bad": True}
    answer: dict[str, Any] = {}
    if judgment.ranks is not None and sum(rank is not None for rank in judgment.ranks) > 1:
        answer["ranks"] = judgment.ranks
    if judgment.ratings:
        answer["ratings"] = judgment.ratings
    return answer


def _order(first: float | None, second: float | None) -> int | None:
    if first is None or second is None:
        return None
    return (first > second) - (first < second)


def _scored(known: Mapping[str, Any], judgment: RowMapping) -> Score:
    return score(known, judgment["ranks"], judgment["both_bad"], judgment["ratings"])
