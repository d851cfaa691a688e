"""What judges said in a project: all that agreement, quality and bias are measured from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, String, case, cast, exists, false, func, select

from labeling_app.store.models import annotators, assignments, audit_log, completions, judgments, tasks


@dataclass(frozen=True, slots=True)
class Said:
    """The newest judgment of one judge of one task; every list has one entry per output, by ordinal.

    judge: the name in exports. ranks: 1 is best, equal is a tie, None is not judged. presented: the ordinals
    from top to bottom, where that is known. compared: (a, b, 0 a is better, 1 b is, 2 a tie), of a judgment
    that came without ranks.
    """

    task: int
    judge: str
    ranks: Sequence[float | None] | None
    all_bad: bool = False
    presented: Sequence[int] | None = None
    ratings: dict[str, Sequence[float | None]] | None = None
    compared: Sequence[tuple[int, int, int]] = ()


@dataclass(frozen=True)
class Panel:
    """Everybody who said something. names: what a page calls a judge. lengths: of each task's outputs, in
    characters (None: several turns); empty where nobody asked for them."""

    said: list[Said]
    names: dict[str, str]
    lengths: dict[int, list[int | None]] = field(default_factory=dict)


def panel(connection: Connection, project_id: int, *, lengths: bool = False) -> Panel:
    """All judgments of a project's queue: those made here and those that its records came with.

    Gold and practice are left out, because everybody gets them and is told about them; so are tasks that
    were withdrawn. Who judged a task here and in the record counts with the judgment made here.
    """
    found = {(one.task, one.judge): one for one in _imported(connection, project_id)}
    found |= {(one.task, one.judge): one for one in _made_here(connection, project_id)}
    logins = connection.execute(select(annotators.c.public_id, annotators.c.login)).all()
    names = {row.public_id: row.login for row in logins}
    return Panel(list(found.values()), names, _lengths(connection, project_id) if lengths else {})


def mark(connection: Connection, project_id: int) -> tuple[Any, ...]:
    """Something that is another after whatever changes what `panel` or `gold.accuracy` says of a project."""
    t = tasks.c
    judged = select(func.max(judgments.c.id), func.count()).select_from(judgments)
    flagged = func.sum(case((t.is_gold, 1), (t.is_practice, 3), else_=0))
    withdrawn = func.sum(case((t.status == "withdrawn", 1), else_=0))
    there = select(func.count(), func.max(t.id), flagged, withdrawn).where(t.project_id == project_id)
    names = select(func.count(), func.max(audit_log.c.id)).where(audit_log.c.action.like("forget%"))
    return tuple(value for one in (judged, there, names) for value in connection.execute(one).one())


def newest() -> Any:
    """The condition that a judgment is the newest revision of its assignment."""
    later = judgments.alias()
    follows = (later.c.assignment_id == judgments.c.assignment_id) & (
        later.c.revision == judgments.c.revision + 1
    )
    return ~exists().where(follows)


def queued(project_id: int) -> Any:
    """The condition of the tasks that are measured: the project's, without gold, practice and withdrawn."""
    t = tasks.c
    plain = (t.is_gold == false()) & (t.is_practice == false()) & (t.status != "withdrawn")
    return (t.project_id == project_id) & plain


def _made_here(connection: Connection, project_id: int) -> list[Said]:
    j, shown = judgments.c, assignments.c.presented_order
    # As text, and decoded here: there may be very many, and this takes a third of the time.
    ranks, order, ratings = (cast(column, String) for column in (j.ranks, shown, j.ratings))
    wanted = (
        select(assignments.c.task_id, annotators.c.public_id, ranks, j.both_bad, order, ratings)
        .select_from(judgments.join(assignments).join(tasks))
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .where(queued(project_id), newest())
        .order_by(j.id)
    )
    decode = msgspec.json.decode
    return [
        Said(task, who, ranks and decode(ranks), bad, order and decode(order), ratings and decode(ratings))
        for task, who, ranks, bad, order, ratings in connection.execute(wanted).all()
    ]


def _imported(connection: Connection, project_id: int) -> list[Said]:
    """What the records say, that is in `tasks.extra`."""
    came = tasks.c.extra["judgments"]
    wanted = select(tasks.c.id, came).where(
        queued(project_id), cast(tasks.c.extra, String).like("%judgments%")
    )
    found = []
    for task, plain in connection.execute(wanted):
        for number, one in enumerate(plain or ()):
            found.append(
                Said(
                    task,
                    one.get("by") or f"unnamed {number + 1}",
                    one.get("ranks"),
                    bool(one.get("all_bad")),
                    one.get("presented"),
                    one.get("ratings"),
                    [_compared(pair) for pair in one.get("comparisons") or ()],
                )
            )
    return found


def _compared(pair: dict[str, Any]) -> tuple[int, int, int]:
    p = pair.get("p")
    return pair["a"], pair["b"], 0 if p is None or p > 0.5 else 2 if p == 0.5 else 1


def _lengths(connection: Connection, project_id: int) -> dict[int, list[int | None]]:
    """Measured by the database on the stored JSON string, whose commonest escapes count as one character."""
    stored: Any = cast(completions.c.content, String)
    for escape in ("\\\\", '\\"', "\\n", "\\t"):
        stored = func.replace(stored, escape, "x")
    wanted = (
        select(completions.c.task_id, func.length(stored) - 2, stored.in_(["null"]))
        .join(tasks, tasks.c.id == completions.c.task_id)
        .where(queued(project_id))
        .order_by(completions.c.task_id, completions.c.ordinal)
    )
    found: dict[int, list[int | None]] = {}
    for task, length, is_null in connection.execute(wanted).all():
        found.setdefault(task, []).append(None if is_null or length is None else length)
    return found
