"""Fixtures that every room uses. Nothing here downloads anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from alignment.data.records import Record

# Before any test imports a library that would contact a network or print telemetry.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests run in as many processes as there are cores: more threads each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# No test asserts a time: a slow machine must not fail a property.
settings.register_profile("alignkit", deadline=None)
settings.load_profile("alignkit")


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
def toy_reward(toy_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a reward model: the toy's backbone with a random head, and its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("toy") / "reward"
    model = AutoModelForSequenceClassification.from_pretrained(toy_model, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(toy_model).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Third-party data that lies beside some checkouts and is never part of this project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the third-party data folder ../shared/data is not here")
    return folder


@pytest.fixture(scope="session")
def toy_records() -> Callable[..., list[Record]]:
    """A factory: `toy_records(n, seed=0)` makes n records of 2-4 completions, ranked by two judges."""
    import random

    from alignment.data.records import Completion, Judgment, Message, Record, Source

    things = ["cat", "dog", "hen", "mat", "sun", "tree"]

    def make(n: int, seed: int = 0) -> list[Record]:
        dice = random.Random(seed)
        records = []
        for row in range(n):
            thing = dice.choice(things)
            count = dice.randint(2, 4)
            ranks = [dice.sample(range(1, count + 1), count), [dice.randint(1, count) for _ in range(count)]]
            records.append(
                Record(
                    prompt=[Message("user", f"Tell me about the {thing}, number {row}.")],
                    id=f"toy-{seed}-{row}",
                    completions=[
                        Completion(
                            id=f"c{k}",
                            content=f"The {thing} sat on the {dice.choice(things)}." + " It ran." * k,
                            source=Source("model", "toy", {"temperature": 1.0}),
                        )
                        for k in range(count)
                    ],
                    demonstrations=[ranks[0].index(1)],
                    judgments=[Judgment(by=f"ann-{k}", ranks=ranks[k]) for k in range(2)],
                )
            )
        return records

    return make


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's chromium, through Playwright: one for all tests, for a process cannot hold two Playwrights."""
    playwright_api = pytest.importorskip("playwright.sync_api")
    path = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
