"""The wheel carries all that the command needs, and works outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*command, ROOT], check=True)
    return next(folder.glob("alignkit-*.whl"))


def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = archive.namelist()
    assert not [name for name in names if name.split("/")[0] in ("configs", "tests", "tools", "benchmarks")]
    assert (tmp_path / "site/alignment/assets/tiny/model.safetensors").stat().st_size < 12e6
    code = (
        "import alignment.cli, labeling_app.server\n"
        "from alignment.backend.config import resolve_config_path\n"
        "from alignment.backend.models import resolve_model_path\n"
        "from alignment.data.files import resolve_data_path\n"
        "print(alignment.cli.__file__)\n"
        "print(resolve_config_path('quickstart/pipeline.yaml'))\n"
        "print(resolve_model_path('tiny'))\n"
        "print(resolve_data_path('quickstart/rankings.jsonl.gz'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = run.stdout.splitlines()
    assert len(paths) == 4
    assert [p for p in paths if not (Path(p).exists() and p.startswith(str(tmp_path)))] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_in_a_clean_environment_runs_the_quickstart(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(pip, check=True)
    subprocess.run([tmp_path / "venv/bin/alignkit", "quickstart"], cwd=tmp_path, check=True)
    report = json.loads((tmp_path / "runs/quickstart/report.json").read_text())
    assert report["reward_model"]["accuracy"]["low"] > 0.5
    for name in ("sft_vs_base", "dpo_vs_sft", "ppo_vs_sft"):
        assert report["win_rate"][name]["low"] > 0.5, name
