"""A newcomer ranks 50 tasks by the screen alone (benchmarks/annotate_50.py): all stored as meant."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "annotate_50.py"


@pytest.mark.slow
def test_fifty_tasks_are_stored_as_meant() -> None:
    pytest.importorskip("playwright")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("chromium is not installed")
    spec = importlib.util.spec_from_file_location("annotate_50", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    result = script.run(50, seed=7)
    assert result["errors"] == result["faults"] == []
    assert result["tasks"] == result["equal"] == 50
