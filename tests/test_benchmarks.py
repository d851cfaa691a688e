"""The figures in the docs are those that the benchmark scripts wrote."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_figures_is_generated_from_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = importlib.import_module("tables")
    assert (ROOT / "docs" / "benchmarks.md").read_text() == tables.page(), "run `make bench`"
    for name, svg in tables.plots().items():
        assert (ROOT / "docs" / "figures" / name).read_text() == svg + "\n", "run `make bench`"
    assert any(tables.RESULTS.glob("*.json"))
