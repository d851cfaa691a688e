"""Probes as they lie in a run directory: all that their figures are computed from.

RUN/probes/PROBE/probe.json    the probe's settings, and how many items it has
                 MODEL.jsonl   a row an item
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment.data.files import atomic_output

SETTINGS = "probe.json"
Row = dict[str, Any]


@dataclass
class Measured:
    """A probe as it lies on disk: its settings, and the rows of each model that was measured."""

    settings: dict[str, Any]
    rows: dict[str, list[Row]] = field(default_factory=dict)


def read_measured(folder: Path) -> dict[str, Measured]:
    """All probes that a run directory holds, by name."""
    found = {}
    for settings in sorted((folder / "probes").glob(f"*/{SETTINGS}")):
        rows = {file.stem: read_rows(file) for file in sorted(settings.parent.glob("*.jsonl"))}
        found[settings.parent.name] = Measured(json.loads(settings.read_text(encoding="utf-8")), rows)
    return found


def probe_pairs(
    models: Iterable[str], base: str | None, comparisons: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    """(a, b): what a may have lost that b has, for every model against the base and for every comparison."""
    against = [(name, base) for name in models if base is not None and name != base]
    return list(dict.fromkeys([*against, *((a, b) for a, b in comparisons)]))


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    with atomic_output(file) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def read_rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
