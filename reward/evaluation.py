"""A reward model on held-out pairs: how often it is right, where, how sure it may be, and beside people.

Every figure counts one vote a judge. Intervals are 95% and resample prompts: pairs of a prompt are not
independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from alignment.stats import bootstrap_interval
from alignment.stats.calibration import calibration
from reward.rows import Row, pair_ids

Floats = NDArray[np.float64]
LONGER = 1.1  # times as many tokens make a text the longer one
STEPS = 4  # of the margin


class HeldOut(NamedTuple):
    """n votes on pairs.

    chosen, rejected: members' scores (n, M); tokens: of both (n, 2); margins: as stated (n,); pair and
    prompt (n,) that each vote is about; firsts: whether it is for the pair's first (n,).
    """

    chosen: Floats
    rejected: Floats
    tokens: Floats
    margins: Floats
    pairs: list[str]
    prompts: list[str]
    firsts: list[bool]

    @property
    def differences(self) -> Floats:
        """(n,) chosen less rejected, mean of the members."""
        return (self.chosen - self.rejected).mean(axis=1)


def scored(scorer: Any, rows: list[Row]) -> HeldOut:
    """Rows of the pairs view (with margin) as votes with their scores."""
    ids = [pair_ids(row, scorer.tokenizer) for row in rows]
    chosen, rejected = zip(*ids, strict=True)
    scores = np.array(scorer.members_of_ids([*chosen, *rejected]), dtype=np.float64)
    votes = np.repeat(np.arange(len(rows)), [max(1, row["judges"]) for row in rows])
    tokens = np.array([[len(a), len(b)] for a, b in ids], dtype=np.float64)[votes]
    margins = np.array([row.get("margin", 1.0) for row in rows])[votes]
    prompts = [str(row["prompt"]) for row in rows]
    sides = [(str(row["chosen"]), str(row["rejected"])) for row in rows]
    return HeldOut(
        chosen=scores[: len(rows)][votes],
        rejected=scores[len(rows) :][votes],
        tokens=tokens,
        margins=margins,
        pairs=[str((prompts[v], *sorted(sides[v]))) for v in votes],
        prompts=[prompts[v] for v in votes],
        firsts=[sides[v][0] <= sides[v][1] for v in votes],
    )


def measures(held: HeldOut) -> dict[str, Any]:
    """All figures as plain values.

    {"accuracy": {"value", "low", "high", "n"}, "by_margin", "by_length": [{"group", …the same}],
    "length_alone": accuracy of the longer text, "calibration": {"error", "log_loss", "bins"}, "agreement":
    {"pairs", "model", "people"} or None, and of an ensemble "members": accuracies, "disagreement": the mean
    over pairs of the members' standard deviation about the difference}.
    """
    right = outcomes(held.differences)
    longer = outcomes(held.tokens[:, 0] - held.tokens[:, 1])
    sure = expit(np.abs(held.differences))
    found = calibration(sure, right)
    figures: dict[str, Any] = {
        "accuracy": _interval(right, held.prompts),
        "by_margin": by_group(right, margin_groups(held.margins), held.prompts),
        "by_length": by_group(right, length_groups(held.tokens), held.prompts),
        "length_alone": _interval(longer, held.prompts),
        "calibration": {
            "error": found.error,
            "log_loss": float(np.logaddexp(0.0, -held.differences).mean()),
            "bins": [one._asdict() for one in found.bins],
        },
        "agreement": agreement(held),
    }
    if held.chosen.shape[1] > 1:
        each = held.chosen - held.rejected
        figures["members"] = [float(outcomes(column).mean()) for column in each.T]
        figures["disagreement"] = float(each.std(axis=1, ddof=1).mean())
    return figures


def outcomes(differences: Floats) -> Floats:
    """(n,) 1 where positive, 0 where negative, 0.5 where nothing."""
    return 0.5 + 0.5 * np.sign(differences)


def by_group(right: Floats, groups: Sequence[str], prompts: Sequence[str]) -> list[dict[str, Any]]:
    """[{"group", "value", "low", "high", "n"}], groups in their sorted order."""
    names = np.asarray(groups)
    found = []
    for name in sorted(set(groups)):
        at = np.flatnonzero(names == name).tolist()
        found.append({"group": name, **_interval(right[at], [prompts[i] for i in at])})
    return found


def margin_groups(margins: Floats) -> list[str]:
    """The margin of each vote in words: each of a few, or else its quarter."""
    if len(set(margins.tolist())) <= STEPS:
        return [f"margin {value:g}" for value in margins]
    edges = np.quantile(margins, np.arange(1, STEPS) / STEPS, method="lower")
    return [f"margin, quarter {place + 1}" for place in np.searchsorted(edges, margins)]


def length_groups(tokens: Floats) -> list[str]:
    """Which of the two is longer, by more than a tenth."""
    ratio = tokens[:, 0] / tokens[:, 1]
    names = {1: "chosen is longer", -1: "rejected is longer", 0: "about as long"}
    return [names[int(r > LONGER) - int(r < 1 / LONGER)] for r in ratio]


def agreement(held: HeldOut) -> dict[str, Any] | None:
    """Of pairs with several votes: how often the model agrees with a judge, and two judges with each other.

    Both are means over pairs, so that the two compare. None where no pair has two votes.
    """
    right = outcomes(held.differences)
    by_pair: dict[str, list[int]] = {}
    for place, pair in enumerate(held.pairs):
        by_pair.setdefault(pair, []).append(place)
    model, people, prompts = [], [], []
    for places in by_pair.values():
        n = len(places)
        if n < 2:
            continue
        same = sum(held.firsts[at] for at in places)
        people.append((same * (same - 1) + (n - same) * (n - same - 1)) / (n * (n - 1)))
        model.append(float(right[places].mean()))
        prompts.append(held.prompts[places[0]])
    if not model:
        return None
    return {
        "pairs": len(model),
        "model": _interval(np.array(model), prompts),
        "people": _interval(np.array(people), prompts),
    }


def _interval(values: Floats, prompts: Sequence[str]) -> dict[str, Any]:
    return bootstrap_interval(values, prompts)._asdict()
