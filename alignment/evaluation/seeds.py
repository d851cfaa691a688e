"""Recipes that were trained with several seeds: what the next seed would give, not only the next prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.errors import UserError
from alignment.evaluation.statistics import over_seeds
from alignment.evaluation.verdict import Judged, rate_of
from alignment.stats.tests import holm, t_test

if TYPE_CHECKING:
    from alignment.evaluation.config import Config


def seeds_report(config: Config, judged: Mapping[str, Sequence[Judged]], seed: int) -> dict[str, Any]:
    """{comparison of a recipe: {value, low, high, n (seeds), prompts, rates {comparison of models: rate}, p,
    p_holm}}.

    The interval is over seeds and prompts; p is of Student's t test of the seeds' rates against one half, and
    p_holm corrected over the recipes' comparisons. The test knows how little a few seeds say of the next one,
    the interval what the prompts leave open. Prompts on which a verdict could not be read for some seed are
    left out. Raises UserError where none is left.
    """
    found: dict[str, Any] = {}
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
        found[f"{a}_vs_{b}"]["p"] = t_test(list(rates.values()), 0.5)
    for one, p in zip(found.values(), holm([one["p"] for one in found.values()]), strict=True):
        one["p_holm"] = float(p)
    return found
