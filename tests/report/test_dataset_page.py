"""The page about a dataset: findings first and right, nothing loaded, it fits a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment.data.formats import FORMATS
from alignment.data.overview import overview
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.report.dataset import build_page
from alignment.report.dataset_findings import findings

Toy = Callable[..., list[Record]]


def pair(k: int, longer_wins: bool, first_shown_wins: bool, agree: bool = True) -> Record:
    """A long and a short completion, judged twice."""
    ranks = [1, 2] if longer_wins else [2, 1]
    winner = ranks.index(1)
    shown = [winner, 1 - winner] if first_shown_wins else [1 - winner, winner]
    return Record(
        [Message("user", f"{k} and {k * 7919 % 10007} make what?")],
        id=str(k),
        completions=[Completion(content=f"It is the number {k} indeed."), Completion(content=f"It is {k}.")],
        judgments=[
            Judgment(by="a", ranks=ranks, presented=shown),
            Judgment(by="b", ranks=ranks if agree else ranks[::-1], presented=shown[:: 1 if agree else -1]),
        ],
    )


def texts(rows: list[Record]) -> dict[str, str]:
    return {finding.text: finding.tone for finding in findings(overview(rows))}


def tone_of(found: dict[str, str], words: str) -> str:
    [tone] = [tone for text, tone in found.items() if words in text]
    return tone


def test_a_bias_for_length_and_place_is_said_first() -> None:
    found = texts([pair(k, k % 10 > 0, k % 8 > 0) for k in range(200)])
    assert (
        tone_of(found, "preferred in 90.0% of all comparisons: a reward model trained on it learns length")
        == "bad"
    )
    assert tone_of(found, "shown first is preferred in 87.5%") == "bad"
    assert tone_of(found, "agree in 100.0% of the cases") == "good"
    assert list(found.values()) == sorted(found.values(), key=["bad", "unsure", "good", "plain"].index)


def test_balanced_labels_and_judges_who_toss_coins() -> None:
    found = texts([pair(k, k % 2 > 0, k % 4 > 1, agree=k % 2 > 0) for k in range(400)])
    assert tone_of(found, "no bias for the place") == "good"
    assert tone_of(found, "little more than by chance") == "bad"


@pytest.mark.parametrize(
    "rows",
    [
        [Record([Message("user", "Hi")])],
        [Record([], completions=[Completion(content="text")])],
        [
            Record(
                [Message("user", "<script>")],
                completions=[Completion(content="<b>")] * 5,
                meta={"tags": ["<i>"]},
            )
        ],
        [
            Record(
                [Message("user", "x")],
                completions=[Completion(content="")],
                judgments=[Judgment(all_bad=True)],
            )
        ],
    ],
)
def test_any_dataset_has_a_page(rows: list[Record]) -> None:
    html = build_page(overview(rows), "<data>").html()
    assert "The dataset &lt;data&gt;" in html
    for markup in ("<script", "<b><", "<i>", "url(", "http://", "https://"):
        assert markup not in html.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
            "<i>(empty)</i>", ""
        )


def test_the_length_bias_of_real_judgments_is_shown(shared_data: Path) -> None:
    path = shared_data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz"
    rows = [record for k, record in enumerate(FORMATS["alpaca-eval"].read(path)) if k % 5 == 0]
    found = overview(rows)
    whole = found.statistics.longer_wins.hits / (found.statistics.pairs + found.statistics.ties)
    assert whole == pytest.approx(0.848, abs=0.015)  # 84.8% of all 13,000; here every fifth
    assert "a reward model trained on it learns length" in build_page(found, "alpaca").html()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_the_page_fits_the_window(
    tmp_path: Path, toy_records: Toy, chromium: Any, width: int, scheme: str
) -> None:
    file = build_page(overview(toy_records(60)), "toy").write(tmp_path / "page.html")
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure svg").count() >= 4
    assert page.locator(".verdict").first.bounding_box()["y"] < 250
    assert problems == []
    page.close()
