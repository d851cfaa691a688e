"""PPO's arithmetic against numbers worked out by hand and against loops in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alignment.ppo import losses


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_gae_by_hand() -> None:
    """γ = 0.5, λ = 0.5; the second completion ends after two tokens, with rubbish in its padding."""
    rewards = torch.tensor([[0.0, 1.0, 2.0], [1.0, 4.0, 99.0]])
    values = torch.tensor([[1.0, 2.0, 3.0], [0.0, 2.0, 77.0]])
    advantages, returns = losses.gae(rewards, values, torch.tensor([3, 2]), gamma=0.5, lam=0.5)
    # row 0: δ = [0 + .5·2 − 1, 1 + .5·3 − 2, 2 − 3] = [0, .5, −1]; Â₂ = −1, Â₁ = .5 − .25, Â₀ = 0 + .25·.25
    # row 1: δ = [1 + .5·2 − 0, 4 − 2] = [2, 2];                     Â₁ = 2,  Â₀ = 2 + .25·2
    torch.testing.assert_close(advantages, torch.tensor([[0.0625, 0.25, -1.0], [2.5, 2.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[1.0625, 2.25, 2.0], [2.5, 4.0, 0.0]]))


def test_gae_is_the_sum_of_discounted_errors() -> None:
    """Â_t = Σ_l (γλ)^l δ_{t+l}, by three loops."""
    gamma, lam = 0.97, 0.9
    lengths = [7, 1, 4]
    rewards, values = rand(3, 7).double(), rand(3, 7, seed=1).double()
    got, returns = losses.gae(rewards, values, torch.tensor(lengths), gamma, lam)
    wanted = np.zeros((3, 7))
    r, v = rewards.numpy(), values.numpy()
    for row, n in enumerate(lengths):
        for t in range(n):
            for k in range(t, n):
                after = v[row, k + 1] if k + 1 < n else 0.0
                wanted[row, t] += (gamma * lam) ** (k - t) * (r[row, k] + gamma * after - v[row, k])
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-12)
    mask = losses.completion_mask(torch.tensor(lengths), 7).numpy()
    np.testing.assert_allclose(returns.numpy(), wanted + v * mask, atol=1e-12)


def test_with_gamma_and_lambda_one_the_return_is_the_sum_of_what_comes() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    _, returns = losses.gae(rewards, torch.tensor([[9.0, -3.0, 5.0]]), torch.tensor([3]), 1.0, 1.0)
    torch.testing.assert_close(returns, torch.tensor([[7.0, 6.0, 4.0]]))


def test_the_score_lands_on_the_last_real_token() -> None:
    """design/training.md 9: a completion of length n gets it at n − 1, EOS or not, and never on padding."""
    logps = torch.tensor([[-1.0, -2.0, -3.0, 0.0], [-1.0, -1.0, -1.0, -1.0]])
    ref = torch.tensor([[-1.5, -2.0, -2.0, 5.0], [-1.0, -1.0, -1.0, -3.0]])
    kl = losses.kl_terms(logps, ref)
    rewards = losses.shaped_rewards(kl, torch.tensor([10.0, 20.0]), torch.tensor([3, 4]), 0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, 0.0, 10.1, 0.0], [0.0, 0.0, 0.0, 19.8]]))


def test_scores_are_scaled_then_clipped() -> None:
    scores = torch.tensor([4.0, 100.0, -100.0])
    torch.testing.assert_close(losses.clipped_scores(scores, 2.0, 5.0), torch.tensor([2.0, 5.0, -5.0]))
    torch.testing.assert_close(losses.clipped_scores(scores, 1.0, None), scores)


def test_both_estimators_of_kl_have_its_mean_and_k3_is_never_negative() -> None:
    """Over a distribution of 50 tokens, in full: Σ π·k1 = Σ π·k3 = KL(π ‖ π_ref)."""
    logps, ref = rand(50).double().log_softmax(0), rand(50, seed=1).double().log_softmax(0)
    exact = torch.nn.functional.kl_div(ref, logps, log_target=True, reduction="sum").item()
    for estimator in ("k1", "k3"):
        terms = losses.kl_terms(logps, ref, estimator)
        assert (logps.exp() * terms).sum().item() == pytest.approx(exact, rel=1e-9)
        assert bool((terms < 0).any()) == (estimator == "k1")
    assert losses.kl_terms(torch.tensor([-900.0]), torch.tensor([0.0]), "k3").isfinite().all()


def test_policy_loss_by_hand() -> None:
    """ρ = 1.5, 1.5, 0.5, 0.5, 1 with ε = 0.2; clipping is pessimistic."""
    old = torch.zeros(5)
    logps = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0]).log()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    got = losses.policy_loss(logps, old, advantages, 0.2, 0.2)
    # −1·1.2 (clipped), +1·1.5, −1·0.5, +1·0.8 (clipped), −2
    assert got.loss.item() == pytest.approx(-1.2 + 1.5 - 0.5 + 0.8 - 2.0)
    assert got.clipped.item() == 2
    assert got.ratio.item() == pytest.approx(5.0)
    assert got.approx_kl.item() == pytest.approx(
        0.5 * (2 * math.log(1.5) ** 2 + 2 * math.log(0.5) ** 2), rel=1e-5
    )


def test_policy_loss_against_loops() -> None:
    logps, old, advantages = rand(50).double(), rand(50, seed=1).double(), rand(50, seed=2).double()
    got = losses.policy_loss(logps, old, advantages, 0.1, 0.3)
    wanted = 0.0
    for new, before, a in zip(logps.numpy(), old.numpy(), advantages.numpy(), strict=True):
        ratio = np.exp(new - before)
        wanted += max(-a * ratio, -a * min(max(ratio, 0.9), 1.3))
    assert got.loss.item() == pytest.approx(wanted)


def test_the_dual_clip_bounds_what_a_wild_ratio_costs() -> None:
    """Â = −1: ρ = 2 costs 2, ρ = 9 only 3; Â > 0 is as without it. A token that is cut has no gradient."""
    logps = torch.tensor([2.0, 9.0, 9.0]).log().requires_grad_()
    got = losses.policy_loss(logps, torch.zeros(3), torch.tensor([-1.0, -1.0, 1.0]), 0.2, 0.2, dual_clip=3.0)
    got.loss.backward()
    assert got.loss.item() == pytest.approx(2.0 + 3.0 - 1.2)
    assert got.clipped.item() == 2
    assert logps.grad is not None
    torch.testing.assert_close(logps.grad, torch.tensor([2.0, 0.0, 0.0]))


def test_a_clipped_token_has_no_gradient_and_a_wild_ratio_stays_finite() -> None:
    logps = torch.tensor([1.0, 0.05, 500.0], requires_grad=True)
    losses.policy_loss(logps, torch.zeros(3), torch.tensor([1.0, 1.0, -1.0]), 0.2, 0.2).loss.backward()
    assert logps.grad is not None
    assert logps.grad[0] == 0
    assert logps.grad[1] == pytest.approx(-math.exp(0.05))
    assert bool(logps.grad.isfinite().all())
    wild = losses.policy_loss(torch.tensor([500.0]), torch.zeros(1), torch.tensor([-1.0]), 0.2, 0.2)
    assert wild.loss.item() == pytest.approx(math.exp(20.0))


def test_value_loss_by_hand_and_against_loops() -> None:
    got = losses.value_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]), torch.tensor([3.0, 0.1]), 0.5)
    # clip(1) = .5: max((1−3)², (.5−3)²) = 6.25;  clip(2) = .5: max((2−.1)², (.5−.1)²) = 3.61
    assert got.loss.item() == pytest.approx(0.5 * (6.25 + 3.61))
    assert got.clipped.item() == 1
    values, old, returns = rand(40).double(), rand(40, seed=1).double(), rand(40, seed=2).double()
    wanted = 0.0
    for v, o, r in zip(values.numpy(), old.numpy(), returns.numpy(), strict=True):
        wanted += 0.5 * max((v - r) ** 2, (o + np.clip(v - o, -0.2, 0.2) - r) ** 2)
    assert losses.value_loss(values, old, returns, 0.2).loss.item() == pytest.approx(wanted)


def test_whitening_uses_the_moments_of_all_ranks() -> None:
    one, two = rand(30) * 3 + 1, rand(20, seed=1) - 4
    totals = losses.moments(one) + losses.moments(two)
    everything = torch.cat([losses.whiten(one, totals), losses.whiten(two, totals)])
    assert everything.mean().item() == pytest.approx(0, abs=1e-6)
    assert everything.std(unbiased=False).item() == pytest.approx(1, abs=1e-6)
    both = torch.cat([one, two]).numpy()
    np.testing.assert_allclose(everything.numpy(), (both - both.mean()) / both.std(), atol=1e-5)
    assert bool((losses.whiten(torch.ones(4), losses.moments(torch.ones(4))) == 0).all())


def test_adaptive_kl() -> None:
    assert losses.next_kl_coef(0.1, kl=6.6, target=6.0, episodes=100, horizon=1000) == pytest.approx(
        0.1 * 1.01
    )
    assert losses.next_kl_coef(0.1, kl=60.0, target=6.0, episodes=100, horizon=1000) == pytest.approx(
        0.1 * 1.02
    )
    assert losses.next_kl_coef(0.1, kl=0.0, target=6.0, episodes=100, horizon=1000) == pytest.approx(
        0.1 * 0.98
    )


def test_running_scale_is_the_deviation_of_all_scores_so_far() -> None:
    running = losses.RunningScale()
    assert running.scale == 1.0
    batches = [rand(7) * 3, rand(1, seed=1), rand(12, seed=2) + 5]
    for batch in batches:
        running.update(losses.moments(batch))
    assert running.scale == pytest.approx(torch.cat(batches).double().std(unbiased=False).item())
    same = losses.RunningScale()
    same.update(losses.moments(torch.full((5,), 3.0)))
    assert same.scale == 1.0


def test_completion_mask() -> None:
    got = losses.completion_mask(torch.tensor([1, 3]), 3)
    assert got.tolist() == [[True, False, False], [True, True, True]]
