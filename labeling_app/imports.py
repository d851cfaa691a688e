"""Records into the labeling database: a task each. What a record holds beside prompt and outputs is kept, and
`exports` gives it back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select

from alignment.data.detect import detect
from alignment.data.formats import FORMATS
from alignment.data.records import Record, nearest, record_id
from alignment.data.redaction import Redactor
from alignment.errors import UserError
from alignment.stats.spread import disagreement
from labeling_app.store import audit, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import completions, projects, tasks
from labeling_app.store.projects import apply_changes, checked_name, keep_guideline

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
LAST = -1e300  # the priority of a task without a number: behind all that have one
BATCH = 500
T = TypeVar("T")


@dataclass
class Imported:
    """What an import did: tasks added, tasks that were there already, records left out by reason."""

    project: str
    added: int = 0
    present: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    fresh: set[str] = field(default_factory=set)  # ids of the records added by this import


@dataclass(frozen=True)
class Looked:
    """What a look through a file found: its format, by what it was recognised, and personal data by kind."""

    format: str
    by: str
    personal: Counter[str]


def look_through(path: str | Path, format_: str = "auto", priority_from: str | None = None) -> Looked:
    """Read the whole file, so that its errors come before a database is made; count personal data in it.

    Raises UserError for a file that no format knows, a broken row, and a priority that is not a number.
    """
    name, by = _known_format(path, format_)
    return Looked(name, by, look_over(read_any(path, name), priority_from))


def look_over(records: Iterable[Record], priority_from: str | None = None) -> Counter[str]:
    """Personal data in records, by kind. Raises UserError for a priority that is not a number."""
    redactor, found = Redactor(), Counter[str]()
    for record in records:
        found.update(place.kind for place in redactor.places(record))
        if priority_from is not None:
            priority(record, priority_from)
    return found


def read_any(path: str | Path, format_: str = "auto") -> Iterator[Record]:
    """The records of a file of any format; `auto` tells the format from the first rows."""
    name, _ = _known_format(path, format_)
    records: Iterator[Record] = FORMATS[name].read(path)
    return records


def redacted(records: Iterable[Record]) -> Iterator[Record]:
    """The records with a placeholder such as [EMAIL] for what is personal; their ids stay."""
    redactor = Redactor()
    return (redactor.redacted(record) for record in records)


def _known_format(path: str | Path, name: str) -> tuple[str, str]:
    if name == "auto":
        return detect(path)
    if name not in FORMATS:
        raise UserError(f'--from: there is no format "{name}"{nearest(name, set(FORMATS))}')
    return name, "--from"


def priority(record: Record, path: str) -> float:
    """The number that orders the queue, higher first: at a dotted path such as `meta.uncertainty`, or, for
    `rewards`, how far the members of a reward ensemble are apart about the outputs. LAST where there is none.

    Raises UserError if there is something else than a number.
    """
    if path == "rewards":
        rewards = [completion.rewards or [] for completion in record.completions]
        apart = disagreement(rewards)
        return LAST if apart is None else apart
    value: Any = msgspec.to_builtins(record)
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return LAST
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(
            f'--priority-from: record "{record_id(record)}" has {value!r} at {path}, which is no number'
        )
    return float(value)


def import_records(
    store: Store,
    records: Iterable[Record],
    project: str = DEFAULT_PROJECT,
    overlap: int | None = None,
    guideline: str | None = None,
    *,
    asks: str | None = None,
    priority_from: str | None = None,
) -> Imported:
    """Make tasks of records, in one transaction: all or nothing, and twice is once. See `import_into`."""
    with store.write() as tx:
        return import_into(
            tx, utcnow(), records, project, overlap, guideline, asks=asks, priority_from=priority_from
        )


def import_into(
    tx: Connection,
    now: datetime,
    records: Iterable[Record],
    project: str,
    overlap: int | None = None,
    guideline: str | None = None,
    *,
    asks: str | None = None,
    priority_from: str | None = None,
    actor: str = audit.COMMAND_LINE,
) -> Imported:
    """Make tasks of records in the caller's transaction.

    A record is known by (project, id); the same id with another prompt or other outputs is a UserError.
    `overlap` (judgments wanted per task) and `guideline` change the project if it exists already, a new
    project gets 1 and DEFAULT_GUIDELINE; `asks` is for a new project alone. `priority_from` (see `priority`)
    orders the tasks, those too that were there already. Records that cannot be judged are left out and
    counted; UserError if none is left.
    """
    done = Imported(project)
    row = _open_project(tx, now, actor, project, overlap, guideline, asks)
    for batch in batches(_judgeable(records, done.left_out, row["asks"])):
        _insert_batch(tx, now, row, batch, done, priority_from)
    if not done.added and not done.present:
        reasons = (
            ", ".join(f"{count} with {reason}" for reason, count in done.left_out.items()) or "no record"
        )
        raise UserError(f"there is nothing to rank in these records ({reasons}); nothing was imported")
    counts = {"added": done.added, "present": done.present, "left_out": dict(done.left_out)}
    audit.append(tx, now, actor, "import", f"project/{row['id']}", after=counts)
    return done


def _open_project(
    tx: Connection,
    now: datetime,
    actor: str,
    name: str,
    overlap: int | None,
    guideline: str | None,
    asks: str | None,
) -> RowMapping:
    row = tx.execute(select(projects).where(projects.c.name == name)).mappings().first()
    if row is None:
        made = insert(projects).values(
            name=checked_name(name),
            guideline=guideline or DEFAULT_GUIDELINE,
            overlap=overlap or 1,
            asks=asks or "ranking",
            created_at=now,
        )
        row = tx.execute(made.returning(projects)).mappings().one()
        keep_guideline(tx, now, row["id"], row["guideline_version"], row["guideline"])
        after = {"overlap": row["overlap"], "asks": row["asks"]}
        audit.append(tx, now, actor, "project add", f"project/{row['id']}", after=after)
        return row
    if asks is not None and asks != row["asks"]:
        raise UserError(
            f'project "{name}" asks for {row["asks"]}, not {asks}; import into another project with --project'
        )
    changes: dict[str, Any] = {}
    if overlap is not None and overlap != row["overlap"]:
        changes["overlap"] = overlap
    if guideline is not None and guideline != row["guideline"]:
        changes["guideline"] = guideline
    apply_changes(tx, now, actor, row, changes)
    return tx.execute(select(projects).where(projects.c.id == row["id"])).mappings().one()


def _judgeable(records: Iterable[Record], left_out: Counter[str], asks: str) -> Iterator[Record]:
    for record in records:
        turns = [*record.prompt, *(turn for completion in record.completions for turn in completion.turns())]
        if len(record.completions) < MIN_OUTPUTS:
            left_out[f"fewer than {MIN_OUTPUTS} outputs"] += 1
        elif len(record.completions) > MAX_OUTPUTS:
            left_out[f"more than {MAX_OUTPUTS} outputs"] += 1
        elif asks == "pair" and len(record.completions) > 2:
            left_out["more than 2 outputs, which this project compares"] += 1
        elif any(turn.parts for turn in turns):
            left_out["images, which the app does not show"] += 1
        else:
            yield record


def _insert_batch(
    tx: Connection,
    now: datetime,
    project: RowMapping,
    batch: list[Record],
    done: Imported,
    priority_from: str | None,
) -> None:
    ids = [record_id(record) for record in batch]
    stored = tx.execute(
        select(tasks.c.external_id, tasks.c.sha256).where(
            tasks.c.project_id == project["id"], tasks.c.external_id.in_(ids)
        )
    )
    known: dict[str, str] = {row.external_id: row.sha256 for row in stored}
    again: dict[str, float] = {}  # tasks that are there, with their new priority
    task_rows: list[dict[str, Any]] = []
    outputs: list[list[dict[str, Any]]] = []
    for name, record in zip(ids, batch, strict=True):
        row, completion_rows = task_row(record)
        rank = 0.0 if priority_from is None else priority(record, priority_from)
        if known.get(name) == "":
            done.left_out["texts that were forgotten here"] += 1
            continue
        if name in known:
            if known[name] == row["sha256"] and name in done.fresh:
                done.left_out["the prompt and outputs of an earlier one, whose task they share"] += 1
                continue
            if known[name] != row["sha256"]:
                raise UserError(
                    f'record "{name}" is in project "{done.project}" with another prompt or other outputs; '
                    "give it another id, or import into another project with --project; nothing was imported"
                )
            done.present += 1
            again[name] = rank
            continue
        known[name] = row["sha256"]
        done.fresh.add(name)
        place = {"project_id": project["id"], "external_id": name, "n_required": project["overlap"]}
        task_rows.append({**place, "priority": rank, "created_at": now, **row})
        outputs.append(completion_rows)
    if task_rows:
        made = tx.scalars(insert(tasks).returning(tasks.c.id, sort_by_parameter_order=True), task_rows).all()
        rows = [{"task_id": task, **row} for task, some in zip(made, outputs, strict=True) for row in some]
        tx.execute(insert(completions), rows)
        done.added += len(task_rows)
    if priority_from is not None:
        queue.set_priorities(tx, project["id"], again)


def task_row(record: Record) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A record as columns: of its task (prompt, extra, sha256), and of each of its completions."""
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


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, BATCH at a time."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
