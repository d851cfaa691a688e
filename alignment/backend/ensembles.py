"""Ensembles of reward models: what the folder of one says, and how its members' scores become one.

MODEL/ensemble.json   {"kind": "heads" | "runs", "members": M, "levels": [M numbers]}
  heads: one model whose head has M outputs
  runs:  MODEL/0, MODEL/1, …: members trained apart; adapters over one base are loaded over one base
levels: the mean score of each member on its training data. Bradley-Terry leaves a level free, so
that it is taken off before members are compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FILE = "ensemble.json"
Combine = Literal["mean", "worst", "uncertainty"]


class Ensemble(NamedTuple):
    """What ensemble.json says."""

    kind: Literal["heads", "runs"]
    members: int
    levels: list[float]


def read_ensemble(folder: str | Path) -> Ensemble | None:
    """The ensemble at a model's folder, None for a model alone."""
    path = Path(folder) / FILE
    return Ensemble(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_ensemble(folder: str | Path, ensemble: Ensemble) -> None:
    """Say at a model's folder that it is an ensemble."""
    text = json.dumps(ensemble._asdict(), indent=2) + "\n"
    (Path(folder) / FILE).write_text(text, encoding="utf-8")


def combined(scores: ArrayLike, how: Combine = "mean", penalty: float = 0.1) -> NDArray[np.float64]:
    """One score a text: (n, M) members' scores -> (n,).

    "mean"; "worst": the least of the members; "uncertainty": the mean less `penalty` times the variance of
    the members (÷ M). Source: Coste et al., arXiv 2310.02743, eq. 2–4, against over-optimisation.
    """
    table = np.asarray(scores, dtype=np.float64)
    if how == "worst":
        return table.min(axis=1)
    mean = table.mean(axis=1)
    return mean - penalty * table.var(axis=1) if how == "uncertainty" else mean
