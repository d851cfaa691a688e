"""Pages of numbers of a whole project, computed when one is opened and kept while they would be the same.

A project of 50,000 judgments takes a second or two. While people work in it, such numbers are kept for a
minute too, and the page says of when they are; those of a small project are always new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, RowMapping

from labeling_app.pages.desk import Desk, Stored, Visit, html
from labeling_app.pages.parts import Html, address, empty, link
from labeling_app.store import verdicts
from labeling_app.store.database import utcnow

T = TypeVar("T")
SLOW = 0.5  # seconds; what takes longer is kept for KEPT seconds whatever is judged meanwhile
KEPT = 60.0
MOST = 64  # results that are kept, the oldest going first

_lock = threading.Lock()  # one computation at a time: two would only take each other's processor
_results: dict[tuple[str, int, str], tuple[object, object, float, float, datetime]] = {}


def measured_page(store: Stored, blocks: Any, path: str, body: Callable[[Visit, RowMapping], Html]) -> None:
    """The components and handlers of a page that shows `body(visit, project)` of the project chosen."""
    desk = Desk(store, path)
    out = html("")

    def filled(visit: Visit) -> dict[Any, Any]:
        project = visit.project()
        return {out: nothing_yet(visit) if project is None else body(visit, project)}

    desk.load(blocks, filled, [out])


def nothing_yet(visit: Visit) -> Html:
    """What stands on a page of measurements where there is no project."""
    links = [link("New project", address("settings", new=1), "ad-button")] if visit.is_admin else []
    return empty("No projects yet", "Judgments are measured once there is a project with tasks.", *links)


def measured(
    visit: Visit, project: RowMapping, what: str, compute: Callable[[Connection], T]
) -> tuple[T, datetime]:
    """`compute(connection)` for this project, new or kept; and the moment (UTC) that it is of."""
    key = (str(visit.store.url), project["id"], what)
    with _lock, visit.store.read() as connection:
        mark = verdicts.mark(connection, project["id"])
        kept = _results.pop(key, None)
        now = time.monotonic()
        if kept is not None and (kept[1] == mark or (kept[2] > SLOW and now - kept[3] < KEPT)):
            _results[key] = kept
            return cast(T, kept[0]), kept[4]
        found, at = compute(connection), utcnow()
        _results[key] = (found, mark, time.monotonic() - now, now, at)
        while len(_results) > MOST:
            del _results[next(iter(_results))]
        return found, at
