"""What a reward model minimises, as pure functions of scores.

Scores may have a last dimension of their own, one entry a member of an ensemble: every formula is elementwise
there.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def pairwise_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margin: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Negative log-likelihood of preferences under Bradley-Terry: mean of -w·log σ(chosen − rejected − m).

    chosen, rejected: (B,) scores; margin: (B,), by how much chosen should win (Llama 2, arXiv 2307.09288,
    eq. 2); weight: (B,), the share of the judges who voted this way, so that a pair ordered both ways by
    different judges counts as the soft label it is. smoothing: ε, the chance that a label is wrong: the loss
    is then (1−ε) times that of the pair and ε times that of the pair turned round, as in conservative DPO
    (Mitchell 2023) and Wang et al., arXiv 2401.06080. Returns a scalar in nats.
    Source: Bradley & Terry 1952; Ouyang et al., arXiv 2203.02155, eq. 1.
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    losses = -logsigmoid(difference)
    if smoothing:
        losses = (1.0 - smoothing) * losses - smoothing * logsigmoid(-difference)
    return losses.mean() if weight is None else (weight * losses).mean()


def plackett_luce(scores: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """(R,) negative log-likelihood in nats of each ranking, drawn best first by a softmax over what is left.

    scores: (R, K); ranks: (R, K) int64, 1 is best, equal ranks are tied, 0 marks an empty place. A group of d
    tied completions is counted by Efron's method: its d factors have as denominators what is left, less l/d
    of the group for l = 0 … d−1. For equal scores within the group that is the mean over its d! orders; it is
    Plackett-Luce itself without ties, and Bradley-Terry with two completions.
    Source: Plackett 1975; Efron 1977, JASA 72:557 (ties of Cox's partial likelihood, the same product).
    """
    present = ranks > 0
    scores = scores.masked_fill(~present, 0.0)
    rival = present[:, None, :] & (ranks[:, None, :] >= ranks[:, :, None])  # (R, i, j): j is left when i goes
    tied = present[:, None, :] & (ranks[:, None, :] == ranks[:, :, None])
    lowest = torch.finfo(scores.dtype).min
    left = torch.where(rival, scores[:, None, :], lowest).logsumexp(-1)
    group = torch.where(tied, scores[:, None, :], lowest).logsumexp(-1)
    earlier = torch.ones_like(tied[0]).tril(-1)  # j stands before i in the row
    gone = (tied & earlier).sum(-1).to(scores.dtype) / tied.sum(-1).clamp(min=1)
    denominator = left + torch.log1p(-gone * (group - left).exp())
    return torch.where(present, denominator - scores, 0.0).sum(-1)


def choices(ranks: torch.Tensor) -> torch.Tensor:
    """(R,) how many choices a ranking (R, K) is made of: the last completion that is left is none."""
    return (ranks > 0).sum(-1) - 1


def centering_penalty(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Mean of (chosen + rejected)², which holds scores near zero: Bradley-Terry leaves their level free.

    chosen, rejected: (B,) scores. Source: Eisenstein et al., arXiv 2312.09244, eq. 2.
    """
    return (chosen + rejected).square().mean()


def wins(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """(B,): 1 where chosen scores higher, 0 where lower, 0.5 where the two are equal."""
    return (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
