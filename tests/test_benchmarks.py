"""The figures in the docs are those that the benchmark scripts wrote."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_figures_is_generated_from_the_results() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert (ROOT / "docs" / "benchmarks.md").read_text() == tables.page(), "run `make bench`"
    assert any(tables.RESULTS.glob("*.json"))
