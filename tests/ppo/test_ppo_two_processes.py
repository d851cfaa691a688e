"""Two ranks of four rows do what one of eight does: whitening, token means, KL, scale are over all ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("ppo_two_ranks.py")


def launch(model: str, ranks: int, out: Path) -> None:
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    command += [str(SCRIPT), model, str(8 // ranks), str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_two_ranks_do_what_one_does(toy_model: str, tmp_path: Path) -> None:
    for ranks in (1, 2):
        launch(toy_model, ranks, tmp_path / str(ranks))
    for kind in ("whole", "lora"):
        alone = load_file(tmp_path / "1" / f"{kind}_0.safetensors")
        first, second = (load_file(tmp_path / "2" / f"{kind}_{rank}.safetensors") for rank in (0, 1))
        for name, weight in alone.items():
            assert torch.equal(first[name], second[name]), name
            torch.testing.assert_close(first[name], weight, atol=1e-5, rtol=1e-4)
        one, two = (json.loads((tmp_path / n / f"{kind}_0.json").read_text()) for n in ("1", "2"))
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert a == pytest.approx(b, abs=1e-4)
        assert one[-2]["kl"] != 0
        samples = (tmp_path / "2" / f"{kind}.jsonl").read_text().splitlines()
        assert len(samples) == 4 * 4  # the first rank alone writes
