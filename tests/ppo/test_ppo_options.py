"""PPO's options beside the plain algorithm: a reference that follows, an actor that rests, several rewards,
held-out prompts, and what is told when a reward is exploited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment.backend.rewards import Part, RewardSum, scored
from alignment.errors import UserError
from alignment.ppo.watch import rising_with_reward

EOS = 2  # of the toy model


def reference_weights(trainer: Any) -> dict[str, torch.Tensor]:
    from alignment.ppo.reference import weights

    return {n: own.detach().clone() for n, own, _ in weights(trainer.policy, trainer.ref_model)}


def policy_weights(trainer: Any) -> dict[str, torch.Tensor]:
    from alignment.ppo.reference import weights

    return {n: twin.detach().clone() for n, _, twin in weights(trainer.policy, trainer.ref_model)}


@pytest.mark.parametrize("adapter", [None, "new", "given"])
def test_the_reference_follows_the_policy(make_trainer: Any, logged: Any, adapter: str | None) -> None:
    """After the one sync, at step 3 of 3: π_ref = α·π + (1 − α)·π_ref as it was."""
    options = {"ref_model_mixup_alpha": 0.25, "ref_model_sync_steps": 3, "max_steps": 3}
    trainer = make_trainer(adapter, sync_ref_model=True, **options)
    before = reference_weights(trainer)
    trainer.train()
    after, policy = reference_weights(trainer), policy_weights(trainer)
    assert after
    assert any(not torch.equal(policy[name], before[name]) for name in before)
    for name in before:
        torch.testing.assert_close(after[name], 0.25 * policy[name] + 0.75 * before[name])
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("adapter", [None, "new"])
def test_a_reference_that_is_reset_leaves_no_kl(make_trainer: Any, logged: Any, adapter: str | None) -> None:
    """A rollout is four steps. α = 1 after each: KL at every rollout is 0; without it, it is not."""
    options: dict[str, Any] = {"max_steps": 12, "learning_rate": 3e-3 if adapter is None else 3e-2}
    follows = make_trainer(
        adapter, sync_ref_model=True, ref_model_mixup_alpha=1.0, ref_model_sync_steps=4, **options
    )
    follows.train()
    assert logged(follows, "kl") == pytest.approx([0.0] * 3, abs=1e-4)
    stays = make_trainer(adapter, **options)
    stays.train()
    assert abs(logged(stays, "kl")[-1]) > 1e-3


def test_the_actor_rests_once_it_has_moved_too_far(make_trainer: Any, logged: Any) -> None:
    """A rollout has four updates; the second is the first whose ratio is not 1, and is too far."""
    trainer = make_trainer(
        reward=lambda p, t, f: [float(i) for i in range(len(t))],
        max_steps=8,
        target_kl=1e-7,
        num_iterations=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
    )
    seen: list[bool] = []
    compute = trainer._compute_loss

    def watched(model: Any, inputs: Any) -> Any:
        seen.append(trainer._critic_alone)
        return compute(model, inputs)

    trainer._compute_loss = watched
    trainer.train()
    assert seen == [False, False, True, True] * 2
    assert len(logged(trainer, "policy/approxkl_avg")) == 4
    assert len(logged(trainer, "loss/value_avg")) == 8


def test_training_stops_when_the_kl_is_too_large(make_trainer: Any, logged: Any) -> None:
    trainer = make_trainer(max_steps=40, max_kl=0.02, learning_rate=1e-2)
    trainer.train()
    kl = logged(trainer, "kl")
    assert trainer.state.global_step < 40
    assert kl[-1] > 0.02
    assert all(value <= 0.02 for value in kl[:-1])


def test_short_completions_are_docked(make_trainer: Any, prescribe: Any) -> None:
    uneven = [[20, 21, 2], [30] * 8, [2], [40, 41, 42, 43, 2]] * 2
    trainer = make_trainer(
        reward=lambda p, t, f: [1.0] * len(t),
        max_steps=1,
        min_completion_length=4,
        short_penalty=0.25,
        missing_eos_penalty=0.5,
    )
    prescribe(trainer, uneven)
    trainer.train()
    wanted = [0.75, 0.5, 0.75, 1.0] * 4
    torch.testing.assert_close(trainer.rollout["rewards"].sum(1), torch.tensor(wanted), atol=1e-4, rtol=0)


def test_k3_makes_the_rewards_of_a_drifted_policy_no_bonus(make_trainer: Any) -> None:
    """With k1 a token that the reference liked better is paid; with k3 no token is."""
    signs = {}
    for estimator in ("k1", "k3"):
        trainer = make_trainer(
            reward=lambda p, t, f: [text.count("a") / 4 - 2.0 for text in t],  # never above 0
            max_steps=8,
            learning_rate=1e-2,
            kl_estimator=estimator,
            missing_eos_penalty=0.0,
            beta=1.0,
        )
        trainer.train()
        signs[estimator] = bool((trainer.rollout["rewards"] > 1e-4).any())
    assert signs == {"k1": True, "k3": False}


# ---- held-out prompts ----


def test_evaluation_leaves_training_as_it_is_and_is_the_same_each_time(make_trainer: Any) -> None:
    found = []
    for held_out in (0, 6):
        trainer = make_trainer(
            max_steps=4,
            held_out=held_out,
            eval_strategy="steps" if held_out else "no",
            eval_steps=1,
            learning_rate=0.0,
            critic_learning_rate=1e-2,
        )
        trainer.train()
        found.append(trainer)
    plain, evaluated = found
    torch.testing.assert_close(plain.rollout["input_ids"], evaluated.rollout["input_ids"])
    for name, parameter in plain.model.named_parameters():
        assert torch.equal(parameter, evaluated.model.get_parameter(name)), name
    logs = [entry for entry in evaluated.state.log_history if "eval_score" in entry]
    assert len(logs) == 4
    names = {
        "eval_score",
        "eval_score_std",
        "eval_kl",
        "eval_mean_length",
        "eval_eos_rate",
        "eval_repetition",
    }
    assert names <= set(logs[0])
    assert [entry["eval_score"] for entry in logs] == [logs[0]["eval_score"]] * 4  # the policy did not move
    assert "score" in evaluated.state.log_history[0], "metrics of training were logged as usual"


def test_the_best_checkpoint_by_held_out_reward_is_kept(make_trainer: Any, tmp_path: Path) -> None:
    scores = iter([5.0, 9.0, 1.0, 2.0])

    trainer = make_trainer(
        max_steps=4,
        held_out=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        learning_rate=1e-2,
    )
    evaluate = trainer.evaluate
    weights = []

    def prescribed(*args: Any, **kwargs: Any) -> dict[str, float]:
        weights.append({n: p.detach().clone() for n, p in trainer.policy.named_parameters()})
        return {**evaluate(*args, **kwargs), "eval_score": next(scores)}

    trainer.evaluate = prescribed
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")
    for name, parameter in trainer.policy.named_parameters():
        if not name.startswith("critic."):
            assert torch.equal(parameter, weights[1][name]), name


# ---- several rewards ----


class Fixed:
    def __init__(self, name: str, members: list[list[float]] | None = None, value: float = 0.0) -> None:
        self.name = name
        if members is not None:
            self.members = lambda prompts, texts, finished: members
        self.value = value

    def score(self, prompts: Any, texts: list[str], finished: Any = None) -> list[float]:
        return [self.value] * len(texts)


def test_rewards_add_up_by_weight_and_ensembles_by_their_rule() -> None:
    members = [[1.0, 3.0], [2.0, 2.0]]
    reward = RewardSum(
        [Part("worst", Fixed("e", members), 2.0, "worst"), Part("flat", Fixed("f", value=10.0), -0.5)]
    )
    scores, parts = scored(reward, ["p", "q"], ["a", "b"], [True, True])
    assert scores.tolist() == [2 * 1.0 - 5.0, 2 * 2.0 - 5.0]
    assert parts["rewards/worst"].tolist() == [1.0, 2.0]
    assert parts["rewards/flat"].tolist() == [10.0, 10.0]
    assert parts["reward_disagreement"].tolist() == [1.0, 0.0]
    careful = RewardSum([Part("e", Fixed("e", members), 1.0, "uncertainty", 0.5)])
    assert careful(["p", "q"], ["a", "b"], [True, True]) == [2.0 - 0.5 * 1.0, 2.0]
    assert careful.parts == {}


def test_rewards_of_one_name_and_missing_scores_are_told() -> None:
    with pytest.raises(UserError, match="two rewards have one name: x, x"):
        RewardSum([Part("x", Fixed("x")), Part("x", Fixed("x"))])
    short = RewardSum([Part("e", Fixed("e", [[1.0, 2.0]]))])
    with pytest.raises(UserError, match="e gave 1 scores for 2 completions"):
        short(["p", "q"], ["a", "b"], [True, True])


def test_parts_and_disagreement_are_among_the_metrics(make_trainer: Any, logged: Any) -> None:
    class Two:
        def members(self, prompts: Any, texts: list[str], finished: Any) -> Any:
            return np.array([[len(text), len(text) + 2.0] for text in texts], dtype=float)

    reward = RewardSum([Part("long", Two(), 0.5), Part("flat", Fixed("f", value=3.0))])
    trainer = make_trainer(reward=reward, max_steps=1)
    trainer.train()
    assert logged(trainer, "reward_disagreement") == [pytest.approx(1.0)]
    assert logged(trainer, "rewards/flat") == [pytest.approx(3.0)]
    score, long = logged(trainer, "score")[0], logged(trainer, "rewards/long")[0]
    assert score == pytest.approx(0.5 * long + 3.0, rel=1e-5)


# ---- signs of an exploited reward ----


def history(scores: list[float], **others: list[float]) -> list[dict[str, float]]:
    rows = [{"score": score, "score_std": 1.0} for score in scores]
    for name, values in others.items():
        for row, value in zip(rows, values, strict=True):
            row[name.replace("__", "/")] = value
    return rows


def test_a_reward_that_rises_with_length_is_told() -> None:
    lengths = [20.0, 21, 22, 60, 62, 64]
    told = rising_with_reward(history([0.0, 0, 0, 1, 1, 1], completions__mean_length=lengths))
    assert len(told) == 1
    assert "the score rose from 0 to 1 while length went from 21 to 62" in told[0]


@pytest.mark.parametrize(
    "rows",
    [
        history([0.0, 0, 0, 0.1, 0.1, 0.1], repetition=[0.0, 0, 0, 1, 1, 1]),  # the score did not rise
        history([0.0, 0, 0, 1, 1, 1], repetition=[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),  # nothing else did
        history([0.0, 0, 1, 1], repetition=[0.0, 0, 1, 1]),  # too little is known
        [],
    ],
)
def test_nothing_is_told_without_both(rows: list[dict[str, float]]) -> None:
    assert rising_with_reward(rows) == []


# ---- the engine of rollouts ----


@pytest.mark.parametrize("adapter", [None, "new"])
def test_rollouts_by_the_graph_engine(make_trainer: Any, logged: Any, adapter: str | None) -> None:
    """Uncaptured, as a CPU runs it: KL 0 and ratio 1 at the start, so the tokens are the policy's own."""
    from alignment.backend.generation.graph import GraphEngine
    from alignment.ppo.critic import unwrap

    trainer = make_trainer(adapter, rollout_engine="graph", max_steps=4, num_iterations=1)
    assert trainer.engine is None  # on a CPU it is not used, and the reason said
    trainer.engine = GraphEngine(unwrap(trainer.policy))
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-4)
    assert logged(trainer, "val/ratio")[0] == pytest.approx(1, abs=1e-5)
    assert logged(trainer, "completions/mean_length")[0] > 1


@pytest.mark.parametrize("adapter", [None, "new"])
def test_rollouts_while_float32_weights_are_trained_under_autocast(
    make_trainer: Any, logged: Any, adapter: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine decodes with a copy in bfloat16, which follows the weights; an adapter's model as it is."""
    from alignment.backend import online_trainer

    monkeypatch.setattr(online_trainer, "why_not", lambda *settings: None)
    trainer = make_trainer(adapter, rollout_engine="graph", bf16=True, num_iterations=1, max_steps=4)
    engine = trainer.engine
    assert (engine.model is engine.source) == (adapter is not None)
    assert {key.dtype for _, key, _ in engine.layers} == {torch.bfloat16}
    before = [p.clone() for p in engine.source.parameters()]
    trainer.train()
    assert logged(trainer, "val/ratio")[0] == pytest.approx(1, abs=1e-2)
    assert any(not torch.equal(p, old) for p, old in zip(engine.source.parameters(), before, strict=False))
    if adapter is None:  # its weights are the policy's, cast, as they were at the last rollout
        engine.decode([[5, 6]], 2, [EOS], 0)
        policy = dict(engine.source.named_parameters())
        for name, parameter in engine.model.named_parameters():
            assert torch.equal(parameter, policy[name].to(torch.bfloat16)), name
