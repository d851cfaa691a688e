"""Recipes that were trained with several seeds: what the next seed would give, not only the next prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.errors import UserError
from alignment.evaluation.statistics import over_seeds
from alignment.evaluation.verdict import Judged, rate_of

if TYPE_CHECKING:
    from alignment.evaluation.config import Config


def seeds_report(config: Config, judged: Mapping[str, Sequence[Judged]], seed: int) -> dict[str, Any]:
    """{comparison of a recipe: {value, low, high, n (seeds), prompts, rates {comparison of models: rate}}}.

    The interval is over seeds and prompts; prompts on which a verdict could not be read for some seed are
    left out. Raises UserError where none is left.
    """
    found = {}
    for a, b in config.comparisons:
        names = [f"{x}_vs_{y}" for x, y in config.spelled_out(a, b)]
        if len(names) == 1:
            continue
        common = set.intersection(*({j.prompt for j in judged[name]} for name in names))
        if not common:
            raise UserError(f"seeds: no prompt has a verdict for every seed of {a} against {b}")
        rows = [(j, k) for k, name in enumerate(names) for j in judged[name] if j.prompt in common]
        outcomes = np.array([j.outcome for j, _ in rows], dtype=np.float64)
        interval = over_seeds(
            outcomes, np.array([j.prompt for j, _ in rows]), np.array([k for _, k in rows]), seed
        )
        rates = {name: rate_of(judged[name], seed).rate for name in names}
        found[f"{a}_vs_{b}"] = {**interval, "prompts": len(common), "rates": rates}
    return found
