"""The reward losses against numbers worked out by hand and against TRL's."""

from __future__ import annotations

import math

import pytest
import torch

from reward.losses import centering_penalty, pairwise_loss, wins

CHOSEN = torch.tensor([2.0, 0.0, -1.0])
REJECTED = torch.tensor([1.0, 0.0, 1.0])


def test_pairwise_loss_by_hand() -> None:
    # log(1 + e^-1), log 2, log(1 + e^2)
    by_hand = [0.31326168751822286, 0.6931471805599453, 2.1269280110429727]
    assert pairwise_loss(CHOSEN, REJECTED).item() == pytest.approx(sum(by_hand) / 3, abs=1e-6)
    margin = torch.tensor([1.0, 0.0, -2.0])  # moves all three differences to zero
    assert pairwise_loss(CHOSEN, REJECTED, margin).item() == pytest.approx(math.log(2), abs=1e-6)
    weight = torch.tensor([1.0, 0.5, 0.0])
    wanted = (by_hand[0] + 0.5 * by_hand[1]) / 3
    assert pairwise_loss(CHOSEN, REJECTED, None, weight).item() == pytest.approx(wanted, abs=1e-6)


def test_votes_both_ways_are_a_soft_label() -> None:
    """Two of three judges for chosen: the loss is least where the model says 2/3."""
    logit = torch.tensor([math.log(2.0), -math.log(2.0)], requires_grad=True)
    loss = pairwise_loss(logit, torch.zeros(2), weight=torch.tensor([2 / 3, 1 / 3]))
    (gradient,) = torch.autograd.grad(loss, logit)
    assert gradient[0].item() == pytest.approx(gradient[1].item(), abs=1e-6)  # d/dd of row 0 minus row 1 is 0


def test_gradient_is_the_probability_of_error() -> None:
    chosen = CHOSEN.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pairwise_loss(chosen, REJECTED), chosen)
    assert torch.allclose(gradient, -torch.sigmoid(REJECTED - CHOSEN) / 3)


def test_centering_and_wins() -> None:
    assert centering_penalty(CHOSEN, REJECTED).item() == pytest.approx(3.0)
    assert wins(CHOSEN, REJECTED).tolist() == [1.0, 0.5, 0.0]
    assert torch.isfinite(pairwise_loss(torch.tensor([-1e4]), torch.tensor([1e4])))
