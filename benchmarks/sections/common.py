"""What the sections of docs/benchmarks.md share."""

from __future__ import annotations

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def interval(value: dict[str, Any], key: str = "value") -> str:
    return f"{value[key]:.3f} [{value['low']:.3f}, {value['high']:.3f}], n = {value['n']:,}"


def mean(value: Any) -> float:
    """A plain number, or an interval's value."""
    return float(value["value"] if isinstance(value, dict) else value)


def setting(value: dict[str, Any]) -> str:
    return ", ".join(f"{name}={given}" for name, given in value.items())


def origin(result: dict[str, Any]) -> str:
    """Device, commit and versions in one line."""
    versions = [f"{name} {v}" for name, v in result.get("versions", {}).items() if name != "alignkit"]
    commit = [f"commit {result['commit'][:12]}"] if result.get("commit") else []
    return "; ".join([result["device"], *([", ".join(versions)] if versions else []), *commit]) + "."
