"""Every config that is shipped loads, against its own class, with no line left to find out at run time."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment import pipeline
from alignment.backend.config import Section, load_config, shipped_configs
from alignment.backend.generation.settings import GenerateConfig
from alignment.backend.yaml_lines import read_yaml
from alignment.evaluation import reward_kl

ROOT = Path(__file__).resolve().parents[1] / "configs"
COUNTS = {"quickstart": 9, "smollm2-135m": 10, "llama-8b": 5}


def config_class(stage: str) -> type[Section]:
    if stage == "generate":
        return GenerateConfig
    if stage == "reward-kl":
        return reward_kl.Config
    return pipeline.Config if stage == "pipeline" else pipeline.stage_module(stage).Config


def test_the_count() -> None:
    folders = [name.partition("/")[0] for name in shipped_configs()]
    assert {name: folders.count(name) for name in folders} == COUNTS
    assert len(shipped_configs()) == len([path for path in ROOT.rglob("*") if path.is_file()])


@pytest.mark.parametrize("name", shipped_configs())
def test_it_loads(name: str) -> None:
    data, _ = read_yaml((ROOT / name).read_text(), name)
    config = load_config(config_class(data["stage"]), name)
    if isinstance(config, pipeline.Config):
        assert pipeline.step_configs(config)


@pytest.mark.parametrize("name", shipped_configs())
def test_it_begins_with_what_it_is_for(name: str) -> None:
    assert (ROOT / name).read_text().startswith("# ")
