"""Fixtures that every room uses. Nothing here downloads anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any test imports a library that would contact a network or print telemetry.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes")
    parser.addoption("--gpu", action="store_true", help="run the tests that need a CUDA device")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker in ("slow", "gpu"):
        if not config.getoption(f"--{marker}"):
            skip = pytest.mark.skip(reason=f"needs --{marker}")
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random two-layer Llama with tokenizer and chat template."""
    from toy import make_toy_model

    return make_toy_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Third-party data that lies beside some checkouts and is never part of this project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the third-party data folder ../shared/data is not here")
    return folder
