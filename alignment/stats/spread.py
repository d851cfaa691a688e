"""How far the members of an ensemble are apart about the outputs of one prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def disagreement(rewards: Sequence[Sequence[float | None]]) -> float | None:
    """The mean over outputs of the standard deviation over members, each member less its own mean.

    rewards: for each output one reward a member, in the same order of members. A member's level says nothing
    about which output is better, so it is taken out first; what is left is what the members dispute.
    Members that lack one of the rewards are left out. None with fewer than two members or two outputs.
    """
    widths = {len(row) for row in rewards}
    if len(rewards) < 2 or len(widths) != 1:
        return None
    table = np.array([[np.nan if value is None else value for value in row] for row in rewards], dtype=float)
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < 2:
        return None
    return float((table - table.mean(axis=0)).std(axis=1, ddof=1).mean())
