"""What length alone explains of the judgments, taken out of the reward before it is learned.

Judges may prefer a longer answer for its length. The reward model is trained as one of two experts whose
log-odds add up: P(a beats b) = σ(s_a − s_b + γ·(log n_a − log n_b)), n the tokens of a completion. γ is
fitted first, by maximum likelihood without s, and then held; scoring leaves it out, so s has no need to
repeat what length says. This is the bias product of Clark et al., arXiv 1909.03683, section 3.2.2 (He et al.,
arXiv 1908.10763), with a term for length as in length-controlled AlpacaEval (Dubois et al., 2404.04475).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

STRONGEST = 10.0  # of γ: where the longer one always wins there is no finite maximum


def length_coefficient(differences: ArrayLike, weights: ArrayLike | None = None) -> float:
    """γ by maximum likelihood: P(chosen beats rejected) = σ(γ·d).

    differences: (n,) d = log n_chosen − log n_rejected; weights: (n,) ≥ 0, of each pair. Within ± STRONGEST;
    0 where no lengths differ.
    """
    d = np.asarray(differences, dtype=np.float64)
    w = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)

    def slope(gamma: float) -> float:
        """Of the log-likelihood, which is concave in γ."""
        return float((w * d * expit(-gamma * d)).sum())

    if not (w * np.abs(d)).any():
        return 0.0
    if slope(STRONGEST) >= 0:
        return STRONGEST
    return -STRONGEST if slope(-STRONGEST) <= 0 else float(brentq(slope, -STRONGEST, STRONGEST, xtol=1e-9))
