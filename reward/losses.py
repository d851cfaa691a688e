"""What a reward model minimises, as pure functions of scores."""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def pairwise_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margin: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative log-likelihood of preferences under Bradley-Terry: mean of -w·log σ(chosen − rejected − m).

    chosen, rejected: (B,) scores; margin: (B,), by how much chosen should win (Llama 2, arXiv 2307.09288,
    eq. 2); weight: (B,), the share of the judges who voted this way, so that a pair ordered both ways by
    different judges counts as the soft label it is. Returns a scalar in nats.
    Source: Bradley & Terry 1952; Ouyang et al., arXiv 2203.02155, eq. 1.
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    losses = -logsigmoid(difference)
    return losses.mean() if weight is None else (weight * losses).mean()


def centering_penalty(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Mean of (chosen + rejected)², which holds scores near zero: Bradley-Terry leaves their level free.

    chosen, rejected: (B,) scores. Source: Eisenstein et al., arXiv 2312.09244, eq. 2.
    """
    return (chosen + rejected).square().mean()


def wins(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """(B,): 1 where chosen scores higher, 0 where lower, 0.5 where the two are equal."""
    return (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
