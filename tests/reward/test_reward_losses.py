"""The reward losses against numbers worked out by hand and against TRL's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from reward.length import STRONGEST, length_coefficient
from reward.losses import centering_penalty, choices, pairwise_loss, plackett_luce, wins

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


def test_label_smoothing_is_a_share_of_turned_labels() -> None:
    plain, turned = pairwise_loss(CHOSEN, REJECTED), pairwise_loss(REJECTED, CHOSEN)
    smooth = pairwise_loss(CHOSEN, REJECTED, smoothing=0.1)
    assert smooth.item() == pytest.approx(0.9 * plain.item() + 0.1 * turned.item(), abs=1e-6)
    # the best difference is no longer infinite: σ(d) = 0.9
    best = torch.tensor([math.log(9.0)], requires_grad=True)
    (gradient,) = torch.autograd.grad(pairwise_loss(best, torch.zeros(1), smoothing=0.1), best)
    assert gradient.item() == pytest.approx(0, abs=1e-6)


def order_probability(scores: list[float], order: tuple[int, ...]) -> float:
    """Plackett-Luce, by drawing one after the other."""
    left, probability = list(order), 1.0
    for place in order:
        probability *= math.exp(scores[place]) / sum(math.exp(scores[other]) for other in left)
        left.remove(place)
    return probability


def test_plackett_luce_is_the_probability_of_the_order() -> None:
    scores = [0.3, -1.2, 2.0, 0.9]
    total = 0.0
    for order in itertools.permutations(range(4)):
        ranks = torch.tensor([[order.index(place) + 1 for place in range(4)]])
        found = math.exp(-plackett_luce(torch.tensor([scores], dtype=torch.float64), ranks).item())
        assert found == pytest.approx(order_probability(scores, order), rel=1e-12)
        total += found
    assert total == pytest.approx(1.0)  # all 24 orders


def test_plackett_luce_by_hand() -> None:
    scores = torch.tensor([[math.log(3.0), math.log(2.0), 0.0]], dtype=torch.float64)
    assert plackett_luce(scores, torch.tensor([[1, 2, 3]])).item() == pytest.approx(-math.log(3 / 6 * 2 / 3))
    # the first two tied: 3·2 over 6 · (6 − ½·5), then 1/1 (Efron)
    assert plackett_luce(scores, torch.tensor([[1, 1, 2]])).item() == pytest.approx(-math.log(6 / (6 * 3.5)))
    # the last two tied: 3/6, then 2·1 over 3 · (3 − ½·3)
    wanted = -math.log(3 / 6 * 2 / (3 * 1.5))
    assert plackett_luce(scores, torch.tensor([[1, 2, 2]])).item() == pytest.approx(wanted)
    pair = plackett_luce(scores[:, :2], torch.tensor([[1, 2]]))
    assert pair.item() == pytest.approx(pairwise_loss(scores[:, 0], scores[:, 1]).item())


def test_ties_of_equal_scores_are_the_mean_over_their_orders() -> None:
    """Efron's denominators are those of an average order, exactly so where the tied ones score the same."""
    scores, ranks = [0.7, 0.7, -0.4, 0.7, 1.5], [2, 2, 3, 2, 1]
    orders = [
        (4, *middle, 2) for middle in itertools.permutations([0, 1, 3])
    ]  # all orders that agree with the ranks
    wanted = sum(order_probability(scores, order) for order in orders) / len(orders)
    found = plackett_luce(torch.tensor([scores], dtype=torch.float64), torch.tensor([ranks]))
    assert math.exp(-found.item()) == pytest.approx(wanted, rel=1e-12)


def test_a_batch_of_rankings_of_different_lengths_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    ranks = torch.tensor([[2, 1, 3, 3, 0], [1, 2, 0, 0, 0], [1, 1, 2, 2, 2]])
    scores = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    together = plackett_luce(scores, ranks)
    for row, length in enumerate([4, 2, 5]):
        alone = plackett_luce(scores[row : row + 1, :length], ranks[row : row + 1, :length])
        assert torch.allclose(together[row], alone[0])
    assert torch.autograd.gradcheck(lambda values: plackett_luce(values, ranks), scores)
    (gradient,) = torch.autograd.grad(together.sum(), scores)
    assert gradient[1, 2:].tolist() == [0, 0, 0]  # empty places have none
    assert gradient.sum(dim=1).abs().max() < 1e-12  # the level of the scores is free
    assert choices(ranks).tolist() == [3, 1, 4]
    extreme = plackett_luce(torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[3, 1, 1]]))
    assert torch.isfinite(extreme).all()


def test_what_length_explains() -> None:
    # 3 of 4 pairs go to the one that is e times as long: σ(γ) = 3/4
    assert length_coefficient([1, 1, 1, -1]) == pytest.approx(math.log(3.0), abs=1e-6)
    assert length_coefficient([1, -1], [3, 1]) == pytest.approx(math.log(3.0), abs=1e-6)
    assert length_coefficient([1, 2, 0.5]) == STRONGEST
    assert length_coefficient([-1, -2]) == -STRONGEST
    assert length_coefficient([0, 0]) == length_coefficient([]) == 0
    drawn = np.random.default_rng(0).normal(size=4000)
    won = np.random.default_rng(1).random(4000) < 1 / (1 + np.exp(-0.8 * drawn))
    assert length_coefficient(np.where(won, drawn, -drawn)) == pytest.approx(0.8, abs=0.1)
