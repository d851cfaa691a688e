"""The labeling app."""

from __future__ import annotations

from statistics import median
from typing import Any

from sections.common import origin, table

ANNOTATE_WORDS = """\
`python benchmarks/annotate_50.py`: a real server on a new database, Debian's chromium, and a newcomer who
signs in by typing and ranks by what the screen says (sums; the nearer result is better), with number keys,
mouse, dragging or the buttons up and down as drawn by seed, a fifth of the tasks with a written reason.
Seconds are those of the page and the hands alone, from one task on the screen to the next: reading takes a
person longer. "As meant": ranks, "all bad", reason and shown order in the database are those that were
intended."""


def annotate(result: dict[str, Any]) -> str:
    """Fifty tasks ranked by the screen alone."""
    hands: dict[str, list[float]] = {}
    for one in result["seconds"]:
        hands.setdefault(one["hand"], []).append(one["seconds"])
    everything = [one["seconds"] for one in result["seconds"]]
    rows = [
        [name, str(len(times)), f"{median(times):.2f}", f"{max(times):.2f}"]
        for name, times in [*sorted(hands.items()), ("all", everything)]
    ]
    return "\n\n".join(
        [
            "## The labeling app: 50 tasks by a new annotator",
            f"{ANNOTATE_WORDS}\n{origin(result)}",
            f"{result['tasks']} tasks ranked of {result['asked']}, {len(result['errors'])} errors, "
            f"{result['equal']} judgments as meant.",
            table(["by", "tasks", "median seconds", "most"], rows),
        ]
    )


LABELING_WORDS = """\
`make bench-labeling`: `alignkit label serve` and locust side by side on one machine. 200 people sign in
within a minute, load the page, and do one thing every 8 seconds, ten minutes in all: change ranks (a draft
is saved), submit and get the next task, or look at what they judged before. Four outputs a task, with
Markdown, tables, code and formulas; three judgments a task; commits are on the disk when they are answered
(PostgreSQL with fsync). Times are the clients', from the request to the whole answer. After each run the
database is compared with the clients' journals. In the figures here both databases' ten minutes ran at the
same time on the same cores, and kills and sizes on a machine that others used too."""


LOAD_HEAD = "database,people,requests/s,errors,peak MB,MB at the end,CPU s,judgments".split(",")


KILLS = {
    "acknowledged": "judgments acknowledged",
    "lost": "lost",
    "doubled": "twice",
    "over_the_overlap": "tasks over the overlap",
    "leases_that_do_not_end": "leases that outlive their time",
    "audit_rows": "audit rows that verify",
}


SIZES = [(kind, p) for kind in ("cpu_milliseconds", "milliseconds") for p in ("50", "95")]


def labeling(result: dict[str, Any]) -> str:
    """The labeling server under load, under kills, and by size."""
    of = {
        part: [one for one in result["results"] if one["part"] == part] for part in ("load", "kills", "size")
    }
    load = [
        [one["database"], name, f"{times['n']:,}", *(f"{times[p]:,.0f}" for p in ("50", "95", "99", "100"))]
        for one in of["load"]
        for name, times in one["milliseconds"].items()
    ]
    whole = [
        [
            one["database"],
            str(one["settings"]["people"]),
            f"{one['per_second']:.0f}",
            f"{sum(one['failures'].values())}",
            f"{one['peak_memory'] / 1e6:.0f}",
            f"{one['memory'][-1][1] / 1e6:.0f}",
            f"{one['cpu_seconds']:.0f} of {one['memory'][-1][0]:.0f}",
            f"{one['found']['acknowledged']:,}",
        ]
        for one in of["load"]
    ]
    kills = [
        [
            one["database"],
            str(one["settings"]["kills"]),
            f"{sum(one['failures'].values()):,}",
            *(f"{one['found'][key]:,}" for key in KILLS),
            one["commit"][:12],
        ]
        for one in of["kills"]
    ]
    sizes = [
        [
            f"{one['settings']['tasks']:,}",
            f"{one['settings']['judgments']:,}",
            name,
            *(f"{one[kind][name][p]:.1f}" for kind, p in SIZES),
        ]
        for one in of["size"]
        for name in ("next task", "draft", "submit", "history")
    ]
    return "\n\n".join(
        [
            "## The labeling app: how many people one server takes",
            f"{LABELING_WORDS}\n{origin(of['load'][0])}",
            table(["database", "request", "n", "median ms", "p95", "p99", "slowest"], load),
            table(LOAD_HEAD, whole),
            "SIGKILL of the server, again and again, while the same people work twice as fast:",
            table(["database", "kills", "requests without an answer", *KILLS.values(), "commit"], kills),
            "What one request costs by the size of the database (SQLite):",
            table(["tasks", "judgments", "request", "CPU ms, median", "p95", "ms, median", "p95"], sizes),
        ]
    )
