"""Records in and out of the labeling database. What a record holds beside prompt and outputs comes back as
it was; the judgments made in the app are added to those it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Row, RowMapping, func, insert, select, update

from alignment.data.files import Written, read_records, write_records
from alignment.data.records import Judgment, Record, record_id
from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.database import Store, stamp, utcnow
from labeling_app.store.models import annotators, assignments, completions, judgments, projects, tasks

DEFAULT_PROJECT = "default"
DEFAULT_GUIDELINE = """\
Read the whole prompt and every answer before you rank.

- **Best first.** Give the best answer rank 1. Answers that are equally good get the same rank.
- **What counts**, in this order: it does what was asked; it is true; it is clear; it is short.
- **All bad** is for a task in which no answer would be of use to the person who asked.
- **Skip** a task that you cannot judge. It goes to somebody else.

The order of the answers is drawn anew for each person and means nothing.
"""
MIN_OUTPUTS, MAX_OUTPUTS = 2, 8
BATCH = 500
T = TypeVar("T")


@dataclass
class Imported:
    """What an import did: tasks added, tasks that were there already, records left out by reason."""

    project: str
    added: int = 0
    present: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Exported:
    """What an export wrote: records and, in them, judgments that were made in the app."""

    written: Written
    judgments: int


def import_records(
    store: Store,
    records: Iterable[Record],
    project: str = DEFAULT_PROJECT,
    overlap: int | None = None,
    guideline: str | None = None,
) -> Imported:
    """Make tasks of records, in one transaction: all or nothing, and twice is once.

    A record is known by (project, id); the same id with another prompt or other outputs is a UserError.
    `overlap` (judgments wanted per task) and `guideline` change the project if it exists already, a new
    project gets 1 and DEFAULT_GUIDELINE. Records that cannot be ranked are left out and counted.
    """
    done = Imported(project)
    now = utcnow()
    with store.write() as tx:
        project_id, required = _open_project(tx, now, project, overlap, guideline)
        for batch in _batches(_rankable(records, done.left_out)):
            _insert_batch(tx, now, project_id, required, batch, done)
        if not done.added and not done.present:
            reasons = ", ".join(f"{count} with {reason}" for reason, count in done.left_out.items())
            raise UserError(f"there is nothing to rank in these records ({reasons}); nothing was imported")
        counts = {"added": done.added, "present": done.present, "left_out": dict(done.left_out)}
        audit.append(tx, now, audit.COMMAND_LINE, "import", f"project/{project_id}", after=counts)
    return done


def _open_project(
    tx: Connection, now: datetime, name: str, overlap: int | None, guideline: str | None
) -> tuple[int, int]:
    row = tx.execute(select(projects).where(projects.c.name == name)).mappings().first()
    if row is None:
        made = insert(projects).values(
            name=name, guideline=guideline or DEFAULT_GUIDELINE, overlap=overlap or 1, created_at=now
        )
        row = tx.execute(made.returning(projects)).mappings().one()
        audit.append(
            tx,
            now,
            audit.COMMAND_LINE,
            "project add",
            f"project/{row['id']}",
            after={"overlap": row["overlap"]},
        )
        return row["id"], row["overlap"]
    changes: dict[str, Any] = {}
    if overlap is not None and overlap != row["overlap"]:
        changes["overlap"] = overlap
    if guideline is not None and guideline != row["guideline"]:
        changes |= {"guideline": guideline, "guideline_version": row["guideline_version"] + 1}
    if changes:
        _change_project(tx, now, row, changes)
    return row["id"], overlap or row["overlap"]


def _change_project(tx: Connection, now: datetime, row: RowMapping, changes: dict[str, Any]) -> None:
    tx.execute(update(projects).where(projects.c.id == row["id"]).values(**changes))
    if "overlap" in changes:
        mine, wanted = tasks.c.project_id == row["id"], changes["overlap"]
        tx.execute(update(tasks).where(mine, ~tasks.c.is_gold).values(n_required=wanted))
        enough = tasks.c.n_judgments >= tasks.c.n_required
        tx.execute(update(tasks).where(mine, tasks.c.status == "open", enough).values(status="done"))
        tx.execute(update(tasks).where(mine, tasks.c.status == "done", ~enough).values(status="open"))
    audit.append(
        tx,
        now,
        audit.COMMAND_LINE,
        "project change",
        f"project/{row['id']}",
        before={key: row[key] for key in changes},  # a guideline is the house's own text, no person's data
        after=changes,
    )


def _rankable(records: Iterable[Record], left_out: Counter[str]) -> Iterator[Record]:
    for record in records:
        turns = [*record.prompt, *(turn for completion in record.completions for turn in completion.turns())]
        if len(record.completions) < MIN_OUTPUTS:
            left_out[f"fewer than {MIN_OUTPUTS} outputs"] += 1
        elif len(record.completions) > MAX_OUTPUTS:
            left_out[f"more than {MAX_OUTPUTS} outputs"] += 1
        elif any(turn.parts for turn in turns):
            left_out["images, which the app does not show"] += 1
        else:
            yield record


def _insert_batch(
    tx: Connection, now: datetime, project_id: int, required: int, batch: list[Record], done: Imported
) -> None:
    ids = [record_id(record) for record in batch]
    stored = tx.execute(
        select(tasks.c.external_id, tasks.c.sha256).where(
            tasks.c.project_id == project_id, tasks.c.external_id.in_(ids)
        )
    )
    known: dict[str, str] = {row.external_id: row.sha256 for row in stored}
    task_rows: list[dict[str, Any]] = []
    outputs: list[list[dict[str, Any]]] = []
    for name, record in zip(ids, batch, strict=True):
        row, completion_rows = _task_row(record)
        if name in known:
            if known[name] != row["sha256"]:
                raise UserError(
                    f'record "{name}" is in project "{done.project}" with another prompt or other outputs; '
                    "give it another id, or import into another project with --project; nothing was imported"
                )
            done.present += 1
            continue
        known[name] = row["sha256"]
        task_rows.append(
            {"project_id": project_id, "external_id": name, "n_required": required, "created_at": now, **row}
        )
        outputs.append(completion_rows)
    if not task_rows:
        return
    made = tx.scalars(insert(tasks).returning(tasks.c.id, sort_by_parameter_order=True), task_rows).all()
    rows = [{"task_id": task, **row} for task, several in zip(made, outputs, strict=True) for row in several]
    tx.execute(insert(completions), rows)
    done.added += len(task_rows)


def _task_row(record: Record) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    plain = msgspec.to_builtins(record)
    prompt, outputs = plain.pop("prompt"), plain.pop("completions", [])
    plain.pop("id", None)
    rows = []
    for ordinal, (output, completion) in enumerate(zip(outputs, record.completions, strict=True)):
        sha256 = audit.digest([msgspec.to_builtins(turn) for turn in completion.turns()])
        source = output.pop("source", None)
        has_content = output.pop("content", None) is not None
        rows.append(
            {
                "ordinal": ordinal,
                "content": completion.text if has_content else None,  # else extra has "messages"
                "source": source,
                "extra": output,
                "sha256": sha256,
            }
        )
    sha256 = audit.digest([prompt, [row["sha256"] for row in rows]])
    return {"prompt": prompt, "extra": plain, "sha256": sha256}, rows


def export_records(
    store: Store,
    out: str | Path,
    project: str | None = None,
    *,
    overwrite: bool = False,
    everything: bool = False,
) -> Exported:
    """Write a project's records with their judgments; those without any only if `everything`.

    All judgments of one moment are in the file: it is one read transaction. Raises UserError if the project
    is unknown or unnamed among several, if there is no judgment, or if `out` exists and not `overwrite`.
    """
    with store.read() as connection:
        row = _find_project(connection, project)
        made = connection.scalar(
            select(func.count(judgments.c.assignment_id.distinct()))
            .select_from(judgments.join(assignments).join(tasks))
            .where(tasks.c.project_id == row["id"])
        )
        found = project_records(connection, row["id"], everything=everything)
        first = next(found, None)
        if first is None:
            raise UserError(
                f'project "{row["name"]}" has no judgments yet; --all exports the unjudged tasks too'
            )
        written = write_records(out, _chain(first, found), overwrite)
    with store.write() as tx:
        after = {"file": Path(out).name, "fingerprint": written.fingerprint, "rows": written.rows}
        audit.append(tx, utcnow(), audit.COMMAND_LINE, "export", f"project/{row['id']}", after=after)
    return Exported(written, made or 0)


def project_records(connection: Connection, project_id: int, *, everything: bool = False) -> Iterator[Record]:
    """A project's records in the order of import, each with the newest revision of every judgment."""
    ids = connection.scalars(
        select(tasks.c.id).where(tasks.c.project_id == project_id).order_by(tasks.c.id)
    ).all()
    for batch in _batches(ids):
        outputs: dict[int, list[dict[str, Any]]] = {}
        wanted = select(completions).where(completions.c.task_id.in_(batch)).order_by(completions.c.ordinal)
        for output in connection.execute(wanted):
            outputs.setdefault(output.task_id, []).append(_completion(output))
        made: dict[int, list[Judgment]] = {}
        for row in _newest_judgments(connection, batch):
            made.setdefault(row.task_id, []).append(_judgment(row))
        for task in connection.execute(select(tasks).where(tasks.c.id.in_(batch)).order_by(tasks.c.id)):
            plain = {"id": task.external_id, "prompt": task.prompt, **task.extra}
            record = msgspec.convert({**plain, "completions": outputs.get(task.id, [])}, Record)
            record.judgments = [*record.judgments, *made.get(task.id, [])]
            if record.judgments or everything:
                yield record


def _find_project(connection: Connection, name: str | None) -> RowMapping:
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


def _completion(row: Row[Any]) -> dict[str, Any]:
    content = {} if row.content is None else {"content": row.content}
    source = {} if row.source is None else {"source": row.source}
    return {**content, **source, **row.extra}


def _newest_judgments(connection: Connection, task_ids: list[int]) -> list[Row[Any]]:
    rows = connection.execute(
        select(judgments, assignments.c.task_id, assignments.c.presented_order, annotators.c.public_id)
        .join(assignments, assignments.c.id == judgments.c.assignment_id)
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .where(assignments.c.task_id.in_(task_ids))
        .order_by(judgments.c.revision)
    )
    newest = {row.assignment_id: row for row in rows}  # the last one stays
    return sorted(newest.values(), key=lambda row: row.id)


def _judgment(row: Row[Any]) -> Judgment:
    return Judgment(
        by=row.public_id,
        ranks=row.ranks,
        all_bad=row.both_bad,
        ratings=row.ratings,
        rationale=row.rationale,
        at=stamp(row.created_at),
        seconds=row.seconds,
        presented=row.presented_order,
        guideline=f"v{row.guideline_version}",
        meta={"late": True} if row.late else {},
    )


def _chain(first: Record, rest: Iterator[Record]) -> Iterator[Record]:
    yield first
    yield from rest


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def check_records(path: str | Path) -> None:
    """Read the whole file, so that its errors come before a database is made."""
    for _ in read_records(path):
        pass
