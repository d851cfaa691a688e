"""The held-out figures against counts by hand, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reward.evaluation import HeldOut, agreement, length_groups, margin_groups, measures
from reward.report import write_report

# Two prompts. Pair x has three votes, two for a (score 2) over b (score 1); pair y one, for d (0) over c (3).
HELD = HeldOut(
    chosen=np.array([[2.0], [2.0], [1.0], [0.0]]),
    rejected=np.array([[1.0], [1.0], [2.0], [3.0]]),
    tokens=np.array([[10, 20], [10, 20], [20, 10], [10, 10]], dtype=float),
    margins=np.array([1.0, 2.0, 1.0, 2.0]),
    pairs=["x", "x", "x", "y"],
    prompts=["p", "p", "p", "q"],
    firsts=[True, True, False, True],
)


def test_by_hand() -> None:
    found = measures(HELD)
    assert found["accuracy"]["value"] == 0.5
    assert found["accuracy"]["n"] == 4
    assert [(one["group"], one["value"], one["n"]) for one in found["by_margin"]] == [
        ("margin 1", 0.5, 2),
        ("margin 2", 0.5, 2),
    ]
    assert [(one["group"], one["value"], one["n"]) for one in found["by_length"]] == [
        ("about as long", 0.0, 1),
        ("chosen is longer", 0.0, 1),
        ("rejected is longer", 1.0, 2),
    ]
    assert found["length_alone"]["value"] == (0 + 0 + 1 + 0.5) / 4
    sure = 1 / (1 + np.exp(-np.array([1.0, 3.0])))
    assert [one["stated"] for one in found["calibration"]["bins"]] == pytest.approx(sure.tolist())
    log_loss = (2 * np.log1p(np.exp(-1)) + np.log1p(np.exp(1)) + np.log1p(np.exp(3))) / 4
    assert found["calibration"]["log_loss"] == pytest.approx(log_loss)
    assert "members" not in found


def test_agreement_of_model_and_people_is_on_the_same_pairs() -> None:
    found = agreement(
        HELD
    )  # pair x alone has several votes: 2 of 3 for the model, 1 of 3 pairs of judges alike
    assert found is not None
    assert (found["pairs"], found["model"]["value"]) == (1, pytest.approx(2 / 3))
    assert found["people"]["value"] == pytest.approx(1 / 3)
    assert agreement(HELD._replace(pairs=["w", "x", "y", "z"])) is None


def test_members_of_an_ensemble() -> None:
    second = np.array([[0.0], [0.0], [0.0], [9.0]])
    both = HELD._replace(
        chosen=np.hstack([HELD.chosen, second]), rejected=np.hstack([HELD.rejected, 0 * second])
    )
    found = measures(both)
    assert found["members"] == [0.5, (0.5 * 3 + 1) / 4]
    assert found["accuracy"]["value"] == 0.75  # mean differences 0.5, 0.5, -0.5, 3
    each = np.array([[1, 0], [1, 0], [-1, 0], [-3, 9]])
    assert found["disagreement"] == pytest.approx(each.std(axis=1, ddof=1).mean())


def test_groups() -> None:
    assert margin_groups(np.array([0.5, 0.5, 2.0])) == ["margin 0.5", "margin 0.5", "margin 2"]
    quarters = margin_groups(np.arange(100.0))
    assert {quarters.count(f"margin, quarter {k}") for k in (1, 2, 3, 4)} <= {24, 25, 26}
    assert length_groups(np.array([[111.0, 100.0], [110.0, 100.0], [100.0, 111.0]])) == [
        "chosen is longer",
        "about as long",
        "rejected is longer",
    ]


def test_the_page(tmp_path: Path) -> None:
    figures = measures(HELD)
    write_report(tmp_path / "report.html", "<mine>", figures, [{"step": 1, "loss": 0.7}, {"step": 2}])
    text = (tmp_path / "report.html").read_text()
    assert "The reward model &lt;mine&gt;" in text
    assert "not shown to be better than chance" in text
    assert "two judges" in text
    assert text.count("<svg") == 3
    good = HELD._replace(chosen=HELD.chosen + 9.0)
    write_report(tmp_path / "report.html", "mine", measures(good), [])
    assert "more often than chance" in (tmp_path / "report.html").read_text()
