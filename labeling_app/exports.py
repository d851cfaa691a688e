"""Records out of the labeling database: as they were imported, with what people said added.

A judgment made here carries in `meta` what the format has no field for: `late`, `flags` (kind and reason),
`adjudicated` (a reviewer's last word on the task), `gold` and `practice`. A rewrite becomes a completion of
its own behind the others, with a human as its source, and a demonstration: something to imitate. It has no
rank, because nobody compared it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, RowMapping, exists, func, insert, or_, select

from alignment.data.files import SIDECAR, Written, record_writer, remove
from alignment.data.merge import with_distinct_ids
from alignment.data.records import Comparison, Judgment, Record
from alignment.errors import UserError
from labeling_app.imports import batches
from labeling_app.store import audit
from labeling_app.store.database import Store, stamp, utcnow
from labeling_app.store.models import (
    adjudications,
    annotators,
    assignments,
    audit_log,
    completions,
    exported,
    exports,
    flags,
    judgments,
    projects,
    tasks,
)

HUMAN = "human"


@dataclass(frozen=True)
class Exported:
    """What an export wrote: records and, in them, judgments that were made in the app."""

    written: Written
    judgments: int


@dataclass(frozen=True)
class Told:
    """One record with what people said in it. people: the annotators whose judgments it holds."""

    record: Record
    task_id: int
    people: set[int]
    judgments: int


def export_records(
    store: Store,
    out: str | Path,
    project: str | None = None,
    *,
    overwrite: bool = False,
    everything: bool = False,
    gold: bool = False,
    actor: str = audit.COMMAND_LINE,
) -> Exported:
    """Write a project's records with their judgments; those without any only if `everything`.

    gold: tasks with a known answer and practice tasks too. All judgments of one moment are in the file: it is
    one read transaction. The file takes its name in the transaction that notes whose judgments it holds: one
    is not there without the other. Raises UserError if the project is unknown or unnamed among several, if
    there is no judgment, or if `out` exists and not `overwrite`.
    """
    held: list[dict[str, Any]] = []
    made = 0
    with ExitStack() as file:
        writer = None
        with store.read() as connection:
            row = find_project(connection, project)
            seen = _last_forgotten(connection)
            for told in told_records(connection, row["id"], everything=everything, gold=gold):
                writer = writer or file.enter_context(record_writer(out, overwrite))
                writer.write(told.record)
                made += told.judgments
                held += [{"task_id": told.task_id, "annotator_id": who} for who in told.people or [None]]
        if writer is None:
            raise UserError(
                f'project "{row["name"]}" has no judgments yet; --all exports the unjudged tasks too'
            )
        with ExitStack() as undo:
            with store.write() as tx:
                if _last_forgotten(tx) != seen:
                    raise UserError("texts were forgotten while they were exported; export once more")
                _note(tx, actor, row["id"], Path(out).name, writer.written, held)
                file.close()  # the file takes its name here, or the note is rolled back
                undo.callback(_take_back, out)
            undo.pop_all()
    return Exported(writer.written, made)


def project_records(
    connection: Connection, project_id: int, *, everything: bool = False, gold: bool = False
) -> Iterator[Record]:
    """A project's records in the order of import, each with the newest revision of every judgment."""
    return (told.record for told in told_records(connection, project_id, everything=everything, gold=gold))


def told_records(
    connection: Connection, project_id: int, *, everything: bool = False, gold: bool = False
) -> Iterator[Told]:
    """As `project_records`, each with who said something. Tasks whose texts were removed are left out."""
    wanted = select(tasks.c.id).where(
        tasks.c.project_id == project_id, exists().where(completions.c.task_id == tasks.c.id)
    )
    if not gold:
        wanted = wanted.where(~or_(tasks.c.is_gold, tasks.c.is_practice))
    for batch in batches(connection.scalars(wanted.order_by(tasks.c.id)).all()):
        outputs = _outputs(connection, batch)
        said = _said(connection, batch)
        last_words = _adjudications(connection, batch)
        for task in connection.execute(select(tasks).where(tasks.c.id.in_(batch)).order_by(tasks.c.id)):
            plain = {"id": task.external_id, "prompt": task.prompt, **task.extra}
            record = msgspec.convert({**plain, "completions": outputs[task.id]}, Record)
            # Tasks of comparisons imported before ids were told apart hold the same one twice.
            record.completions = with_distinct_ids(record.completions)
            made, words = said.get(task.id, []), last_words.get(task.id, [])
            own = {name: True for name in ("gold", "practice") if getattr(task, f"is_{name}")}
            record.judgments = [
                *record.judgments,
                *(_judgment(one, own) for one in made),
                *(_last_word(row, own) for row in words),
            ]
            for one in made:
                _add_rewrite(record, one)
            if record.judgments or everything:
                people = {one.row.annotator_id for one in made} | {row.reviewer_id for row in words}
                yield Told(record, task.id, people, len(made) + len(words))


def find_project(connection: Connection, name: str | None) -> RowMapping:
    """The project of that name, or the only one there is. Raises UserError, naming those that there are."""
    rows = (
        connection.execute(select(projects.c.id, projects.c.name).order_by(projects.c.name)).mappings().all()
    )
    names = ", ".join(row["name"] for row in rows) or "none"
    if name is None and len(rows) == 1:
        return rows[0]
    if name is None:
        raise UserError(f"say which project with --project; there are: {names}")
    for row in rows:
        if row["name"] == name:
            return row
    raise UserError(f'there is no project "{name}"; there are: {names}')


def _outputs(connection: Connection, batch: list[int]) -> dict[int, list[dict[str, Any]]]:
    outputs: dict[int, list[dict[str, Any]]] = {}
    wanted = select(completions).where(completions.c.task_id.in_(batch)).order_by(completions.c.ordinal)
    for row in connection.execute(wanted):
        content = {} if row.content is None else {"content": row.content}
        source = {} if row.source is None else {"source": row.source}
        outputs.setdefault(row.task_id, []).append({**content, **source, **row.extra})
    return outputs


def _said(connection: Connection, batch: list[int]) -> dict[int, list[_Said]]:
    """By task the newest revision of every judgment, in the order of time, with the flags that go with it."""
    rows = connection.execute(
        select(
            judgments,
            assignments.c.task_id,
            assignments.c.annotator_id,
            assignments.c.presented_order,
            annotators.c.public_id,
        )
        .join(assignments, assignments.c.id == judgments.c.assignment_id)
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .where(assignments.c.task_id.in_(batch))
        .order_by(judgments.c.revision)
    )
    newest = {row.assignment_id: row for row in rows}  # the last one stays
    raised: dict[int, list[dict[str, Any]]] = {}
    reasons = (
        select(flags.c.assignment_id, flags.c.kind, flags.c.reason)
        .join(assignments, assignments.c.id == flags.c.assignment_id)
        .where(assignments.c.task_id.in_(batch))
        .order_by(flags.c.id)
    )
    for flag in connection.execute(reasons):
        reason = {} if flag.reason is None else {"reason": flag.reason}
        raised.setdefault(flag.assignment_id, []).append({"kind": flag.kind, **reason})
    said: dict[int, list[_Said]] = {}
    for row in sorted(newest.values(), key=lambda row: row.id):
        said.setdefault(row.task_id, []).append(_Said(row, raised.get(row.assignment_id, [])))
    return said


class _Said(NamedTuple):
    """A row of `judgments` with its flags."""

    row: Row[Any]
    flags: list[dict[str, Any]]


def _judgment(said: _Said, own: dict[str, Any]) -> Judgment:
    row = said.row
    late = {"late": True} if row.late else {}
    raised = {"flags": said.flags} if said.flags else {}
    return Judgment(
        by=row.public_id,
        ranks=row.ranks,
        comparisons=_graded(row.ranks, row.strength),
        all_bad=row.both_bad,
        ratings=row.ratings,
        rationale=row.rationale,
        at=stamp(row.created_at),
        seconds=row.seconds,
        presented=row.presented_order,
        guideline=f"v{row.guideline_version}",
        meta={**own, **late, **raised},
    )


def _graded(ranks: list[int] | None, strength: float | None) -> list[Comparison] | None:
    """The comparison that carries a pair's strength; the ranks alone say the rest."""
    if strength is None or ranks is None:
        return None
    better = 0 if ranks[0] < ranks[1] else 1
    return [Comparison(better, 1 - better, strength=strength)]


def _add_rewrite(record: Record, said: _Said) -> None:
    rewrite = said.row.edited_text
    if rewrite is None or rewrite["text"] == record.completions[rewrite["from"]].text:
        return
    record.demonstrations = [*(record.demonstrations or []), len(record.completions)]
    source = {"kind": HUMAN, "name": said.row.public_id}
    plain = {"content": rewrite["text"], "source": source, "meta": {"rewrite_of": rewrite["from"]}}
    record.completions.append(msgspec.convert(plain, type(record.completions[0])))
    for judgment in record.judgments:  # every list of a judgment has an entry for each completion
        judgment.ranks = _widened(judgment.ranks)
        judgment.labels = _widened(judgment.labels)
        if judgment.ratings is not None:
            judgment.ratings = {name: [*values, None] for name, values in judgment.ratings.items()}


def _widened(values: list[Any] | None) -> list[Any] | None:
    return None if values is None else [*values, None]


def _adjudications(connection: Connection, batch: list[int]) -> dict[int, list[Row[Any]]]:
    rows = connection.execute(
        select(adjudications, annotators.c.public_id)
        .join(annotators, annotators.c.id == adjudications.c.reviewer_id)
        .where(adjudications.c.task_id.in_(batch))
        .order_by(adjudications.c.revision)
    )
    return {row.task_id: [row] for row in rows}  # the newest counts


def _last_word(row: Row[Any], own: dict[str, Any]) -> Judgment:
    return Judgment(
        by=row.public_id,
        ranks=row.ranks,
        all_bad=row.both_bad,
        rationale=row.rationale,
        at=stamp(row.created_at),
        meta={**own, "adjudicated": True},
    )


def _note(
    tx: Connection, actor: str, project_id: int, name: str, written: Written, held: list[dict[str, Any]]
) -> None:
    now = utcnow()
    row = {"project_id": project_id, "name": name, "fingerprint": written.fingerprint, "rows": written.rows}
    made = insert(exports).values(**row, actor=actor, created_at=now)
    number = tx.scalar(made.returning(exports.c.id))
    tx.execute(insert(exported), [{"export_id": number, **entry} for entry in held])
    # The name stands in `exports` alone, where it can be altered: somebody may have put a person's into it.
    after = {"export": number, "fingerprint": written.fingerprint, "rows": written.rows}
    audit.append(tx, now, actor, "export", f"project/{project_id}", after=after)


def _last_forgotten(connection: Connection) -> int | None:
    wanted = select(func.max(audit_log.c.id)).where(audit_log.c.action.like("forget%"))
    return connection.scalar(wanted)


def _take_back(out: str | Path) -> None:
    for path in (os.fspath(out), f"{os.fspath(out)}{SIDECAR}"):
        remove(Path(path))
