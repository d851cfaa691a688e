"""Cost: the figures by hand, peak memory that is seen, requests of a service, files without any."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chat_stub import chat_stub, says

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record
from alignment.evaluation import stage
from alignment.evaluation.cost import NOT_MEASURED, cost_figures, measured


def test_the_figures_of_a_candidate_by_hand() -> None:
    batches = [
        {"seconds": 2.0, "tokens": 300, "answers": 4, "peak_bytes": 50},
        {"seconds": 3.0, "tokens": 200, "answers": 2, "peak_bytes": None},
    ]
    single = [{"seconds": float(s), "tokens": 10} for s in (1, 2, 3, 4)]
    found = cost_figures(
        {"source": "here", "memory": "gpu", "device": "d", "batches": batches, "single": single}
    )
    assert (found["tokens_per_second"], found["answers"], found["peak_bytes"]) == (100.0, 6, 50)
    latency = found["latency"]
    assert (latency["p50"], latency["p95"], latency["most"]) == (2.5, pytest.approx(3.85), 4.0)
    assert latency["tokens_per_second"] == 4.0
    nothing = cost_figures(NOT_MEASURED)
    assert {v for k, v in nothing.items()} == {None}


def test_the_peak_of_a_process_is_of_the_work_alone(tmp_path: Path) -> None:
    """Bytes that were given back before do not count, those that the work takes do."""
    import torch

    model = SimpleNamespace(device=torch.device("cpu"))
    big = torch.ones(60_000_000)  # 240 MB
    del big
    peaks = []
    for size in (1, 60_000_000):
        with measured(tmp_path / f"{size}.jsonl", model) as tokens:
            torch.ones(size)
            tokens += [3, 4]
        entry = json.loads((tmp_path / f"{size}.cost.json").read_text())
        assert (entry["tokens"], entry["answers"], entry["memory"]) == (7, 2, "process")
        peaks.append(entry["peak_bytes"])
    if None in peaks:
        pytest.skip("this system does not let a process reset its peak memory")
    assert peaks[1] - peaks[0] == pytest.approx(240e6, rel=0.1)


def test_a_service_and_a_file(tmp_path: Path) -> None:
    texts = [f"Say {i}" for i in range(5)]
    write_records(tmp_path / "prompts.jsonl", [Record([Message("user", t)]) for t in texts])
    write_records(
        tmp_path / "theirs.jsonl",
        [Record([Message("user", t)], completions=[Completion(content="Well.")]) for t in texts],
    )

    def behave(body: dict[str, Any], number: int) -> Any:
        return (*says("One. Two.")[:3], 0.02)

    with chat_stub(behave) as (url, _):
        values = {
            "models": {"ours": f"{url}#m", "theirs": str(tmp_path / "theirs.jsonl")},
            "prompts": [str(tmp_path / "prompts.jsonl")],
            "comparisons": [["ours", "theirs"]],
            "judge": {"kind": "program"},
            "api": {"concurrency": 2},
            "run": {"dir": str(tmp_path / "run")},
        }
        report = stage.run(stage.Config.model_validate(values))["metrics"]
    latency = report["cost"]["ours"]["latency"]
    assert (latency["n"], latency["at_a_time"], latency["tokens_per_second"]) == (5, 2, None)
    assert latency["least"] >= 0.02
    assert report["cost"]["ours"]["tokens_per_second"] is None
    assert report["cost"]["theirs"]["source"] is None
    html = (tmp_path / "run" / "report.html").read_text()
    assert "not measured: a file of completions" in html
    assert "with up to 2 at a time" in html
