"""PPOTrainer on the toy model: it starts where it should, updates what it should, and learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralModel

from alignment.errors import UserError
from alignment.ppo.critic import Critic
from alignment.ppo.rollout import forward_arguments, pack

ADAPTERS = [None, "new", "given"]
UNEVEN = [[20, 21, 2], [30] * 8, [2], [40, 41, 42, 43, 2], [50, 51], [60, 2], [70] * 7, [80, 81, 82, 2]]


def sharpen(policy: Any) -> None:
    """Larger embeddings, which are the LM head: adapters below it can then steer what is sampled."""
    policy.model.embed_tokens.weight.data *= 10


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_at_the_start_kl_is_zero_and_the_ratio_one(
    make_trainer: Any, logged: Any, adapter: str | None
) -> None:
    """design/training.md 10 and 12: the reference is the policy as given, its adapter included."""
    trainer = make_trainer(adapter, max_steps=2, num_iterations=1)
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-4)
    assert logged(trainer, "objective/kl")[0] == logged(trainer, "kl")[0]
    assert logged(trainer, "val/ratio")[0] == pytest.approx(1, abs=1e-5)
    assert logged(trainer, "policy/clipfrac_avg")[0] == 0


def test_the_reference_is_the_policy_in_memory_not_the_one_on_disk(make_trainer: Any, logged: Any) -> None:
    trainer = make_trainer(change=sharpen, max_steps=6, learning_rate=3e-3)
    trainer.train()
    kl = logged(trainer, "kl")
    assert kl[0] == pytest.approx(0, abs=1e-4)
    assert kl[-1] > 0.01


@pytest.mark.parametrize("adapter", [None, "new"])
def test_the_loss_is_the_same_for_any_micro_batches(
    make_trainer: Any, prescribe: Any, adapter: str | None
) -> None:
    """Token means are over the optimiser batch: completions of 1 to 8 tokens, micro-batches of 8, 4 and 1."""
    found = []
    for size in (8, 4, 1):
        trainer = make_trainer(
            adapter,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            steps_per_generation=16 // size,
            max_steps=4,
            optim="sgd",
            learning_rate=0.5,
            critic_learning_rate=0.5,
            entropy_coef=0.01,
            max_grad_norm=0.0,
        )
        prescribe(trainer, UNEVEN)
        before = weights(trainer.model)
        losses = []
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        found.append((losses, weights(trainer.model)))
        assert largest_difference(before, found[-1][1]) > 1e-3
    for losses, after in found[1:]:
        assert losses == pytest.approx(found[0][0], abs=1e-5)
        assert largest_difference(after, found[0][1]) < 1e-5


def test_checkpointing_activations_changes_nothing(make_trainer: Any, prescribe: Any) -> None:
    found = []
    for option in (False, True):
        trainer = make_trainer(
            "new", activation_checkpointing=option, optim="sgd", learning_rate=0.5, max_steps=2
        )
        prescribe(trainer, UNEVEN)
        trainer.train()
        found.append(weights(trainer.model))
        layers = [m for m in trainer.policy.critic.modules() if hasattr(m, "gradient_checkpointing")]
        assert all(layer.gradient_checkpointing == option for layer in layers)
    assert largest_difference(*found) < 1e-6


def test_a_critic_that_must_be_padded_is(make_trainer: Any) -> None:
    """A reward model of another family has the policy's tokenizer, but looks 3 tokens back."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 512}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": 3}
    critic = Critic(MistralModel(MistralConfig(**sizes, **heads)))
    torch.nn.init.normal_(critic.head.weight)
    trainer = make_trainer(critic=critic)
    rows = forward_arguments(pack([[5, 6, 7, 8], [9]], [[20, 21, 22, 23, 24], [30]], 0), torch.arange(2))
    with torch.no_grad():
        values = trainer.model(**rows, actor=False)["values"]
        alone = [
            critic.head(critic.backbone(torch.tensor([ids])).last_hidden_state[0, first:])[:, 0]
            for ids, first in (([5, 6, 7, 8, 20, 21, 22, 23], 3), ([9], 0))
        ]
    torch.testing.assert_close(values, torch.cat(alone))


def test_dropout_is_off_everywhere(make_trainer: Any, logged: Any) -> None:
    def drop(policy: Any) -> None:
        for layer in policy.model.layers:
            layer.self_attn.attention_dropout = 0.5

    trainer = make_trainer(change=drop, max_steps=2, num_iterations=1)
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-4)
    assert logged(trainer, "val/ratio")[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("adapter", [None, "given"])
def test_the_critic_warms_up_alone(make_trainer: Any, logged: Any, adapter: str | None) -> None:
    trainer = make_trainer(adapter, critic_warmup_steps=3, max_steps=3, weight_decay=0.1)
    before = weights(trainer.model)
    trainer.train()
    after = weights(trainer.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("critic.") for name in moved), moved
    assert not logged(trainer, "val/ratio")
    trainer.args.max_steps = 5
    states = trainer.optimizer.state
    assert all(p not in states for n, p in trainer.model.named_parameters() if not n.startswith("critic."))


def test_after_the_warm_up_adam_counts_the_actors_steps_alone(make_trainer: Any) -> None:
    trainer = make_trainer(critic_warmup_steps=3, max_steps=5)
    trainer.train()
    steps = {
        name.startswith("critic."): int(trainer.optimizer.state[p]["step"])
        for name, p in trainer.model.named_parameters()
        if p in trainer.optimizer.state
    }
    assert steps == {True: 5, False: 2}


def test_what_is_trained_under_a_given_adapter(make_trainer: Any) -> None:
    """Actor: the default adapter. Critic: its own adapter and a head. Never the base or the reference."""
    trainer = make_trainer("given", max_steps=4)
    before = weights(trainer.model)
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        own = ".default." in name or name.startswith("critic.head")
        assert parameter.requires_grad == own, name
        assert torch.equal(parameter, before[name]) != own, name
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 1e-3
    assert trainer.optimizer.param_groups[-1]["initial_lr"] == pytest.approx(9e-3)
    assert len(rates) == 3


def test_the_scorer_sees_each_text_once_and_what_ended(make_trainer: Any, prescribe: Any) -> None:
    seen: list[tuple[Any, str, bool]] = []

    def reward(prompts: list[Any], texts: list[str], finished: list[bool]) -> list[float]:
        seen.extend(zip(prompts, texts, finished, strict=True))
        return [0.0] * len(texts)

    trainer = make_trainer(reward=reward, max_steps=4)  # one rollout of 16, two epochs of two steps
    prescribe(trainer, UNEVEN)
    trainer.train()
    assert len(seen) == 16
    assert [ended for _, _, ended in seen[:8]] == [ids[-1] == 2 for ids in UNEVEN]
    assert all(prompt[0]["role"] == "user" for prompt, _, _ in seen)
    assert seen[0][1] == trainer.processing_class.decode([20, 21])
    assert seen[2][1] == ""


def test_a_rollout_in_numbers(make_trainer: Any, prescribe: Any) -> None:
    """The score is on the last real token, EOS or not; no EOS costs the penalty; nothing is past the end."""
    trainer = make_trainer(
        reward=lambda prompts, texts, finished: [100.0, -2.0, 3.0, 4.0] * 4,
        reward_clip=10.0,
        missing_eos_penalty=1.5,
        max_steps=2,
        num_iterations=1,
        learning_rate=0.0,
        normalize_advantages=False,
        gamma=1.0,
        lam=1.0,
    )
    prescribe(trainer, UNEVEN)
    trainer.train()
    rewards, returns = trainer.rollout["rewards"], trainer.rollout["returns"]
    lengths = [len(ids) for ids in UNEVEN] * 2
    wanted = torch.zeros(16, 8)
    for row, n in enumerate(lengths):
        score = [10.0, -2.0, 3.0, 4.0][row % 4]
        wanted[row, n - 1] = score - (0.0 if UNEVEN[row % 8][-1] == 2 else 1.5)
    torch.testing.assert_close(rewards, wanted, atol=1e-5, rtol=0)
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    torch.testing.assert_close(returns, wanted.sum(1, keepdim=True) * mask, atol=1e-4, rtol=0)


def test_whitening_covers_the_valid_tokens(make_trainer: Any, prescribe: Any) -> None:
    trainer = make_trainer(reward=lambda p, texts, f: [float(len(t)) for t in texts], max_steps=2)
    prescribe(trainer, UNEVEN)
    trainer.train()
    mask = torch.arange(8) < trainer.rollout["lengths"][:, None]
    advantages = trainer.rollout["advantages"]
    assert advantages[mask].mean().item() == pytest.approx(0, abs=1e-5)
    assert advantages[mask].std(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    assert bool((advantages[~mask] == 0).all())


def test_mixed_precision_leaves_the_policys_dtype_alone(make_trainer: Any, logged: Any) -> None:
    """design/training.md 14."""
    trainer = make_trainer(bf16=True, max_steps=2)
    dtypes = []
    roll_out = trainer._roll_out
    trainer._roll_out = lambda prompts: [
        roll_out(prompts),
        dtypes.extend(p.dtype for p in trainer.model.parameters()),
    ][0]
    trainer.train()
    assert set(dtypes) == {torch.float32}
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-3)


def test_every_option_at_once(make_trainer: Any, logged: Any, tmp_path: Path) -> None:
    trainer = make_trainer(
        samples=tmp_path / "samples.jsonl",
        prompts=[{"plain": f"Once {i}"} for i in range(32)],
        max_steps=8,
        num_generations=2,
        gradient_accumulation_steps=2,
        local_rollout_forward_batch_size=5,
        rollout_batch_size=6,
        kl_target=0.5,
        kl_horizon=100,
        entropy_coef=0.01,
        scale_rewards=True,
        critic_bias="mean",
        epsilon_high=0.3,
        log_completions=True,
        num_completions_to_print=1,
    )
    trainer.train()
    assert len(trainer._logs["completion"]) == len(trainer._logs["rewards"]["score"]) == 16
    coefs = logged(trainer, "kl_coef")
    assert coefs[1] == pytest.approx(coefs[0] * (1 - 0.2 * 16 / 100))  # the first KL is 0, under the target
    assert logged(trainer, "reward_scale")[-1] != 1.0
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 4 * len(coefs)
    assert set(samples[0]) == {"step", "prompt", "completion", "score", "reward", "kl", "tokens", "finished"}
    assert samples[0]["prompt"] == samples[1]["prompt"]  # two completions a prompt
    shaped_mean = logged(trainer, "value/mean")[0]
    assert shaped_mean == pytest.approx(trainer.policy.critic.head.bias.item(), abs=1.0)
    assert shaped_mean != 0


def test_metrics_have_the_fields_names(make_trainer: Any) -> None:
    trainer = make_trainer(max_steps=4)
    trainer.train()
    names = {name for entry in trainer.state.log_history for name in entry}
    wanted = """reward score kl entropy eos_rate kl_coef objective/kl objective/entropy objective/scores
        objective/non_score_reward objective/rlhf_reward loss/policy_avg loss/value_avg val/ratio
        val/clipfrac_avg policy/clipfrac_avg policy/approxkl_avg value/explained_variance
        completions/mean_length time/rollout
        time/score time/measure time/update tokens_per_second grad_norm value/grad_norm learning_rate"""
    assert set(wanted.split()) <= names
    first = trainer.state.log_history[0]
    assert first["reward"] == pytest.approx(
        first["score"] - first["kl_coef"] * first["kl"] - (1 - first["eos_rate"]), abs=1e-5
    )


def test_a_reward_that_is_no_number_is_named(make_trainer: Any) -> None:
    with pytest.raises(UserError, match="the reward is nan for completion"):
        make_trainer(reward=lambda p, texts, f: [float("nan")] * len(texts)).train()
    with pytest.raises(UserError, match="gave 1 scores for 16"):
        make_trainer(reward=lambda p, texts, f: [1.0]).train()
    with pytest.raises(TypeError, match="callable"):
        make_trainer(reward=torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match="3 prompts do not fill one rollout of 16"):
        make_trainer(prompts=3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 50}, "top_k"),
        ({"min_p": 0.1}, "min_p"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"generation_kwargs": {"typical_p": 0.9}}, "generation_kwargs.typical_p"),
        ({"use_transformers_continuous_batching": True}, "use_transformers_continuous_batching"),
        ({"sync_ref_model": True, "beta": 0.0}, "sync_ref_model"),
        ({"dual_clip": 1.0}, "dual_clip"),
        ({"disable_dropout": False}, "disable_dropout"),
        ({"reward_weights": [1.0]}, "reward_weights"),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 3}, "steps_per_generation"),
        ({"kl_target": 6.0, "beta": 0.0}, "kl_target"),
        ({"total_episodes": 3}, "total_episodes"),
    ],
)
def test_options_that_would_mislead_are_refused(
    make_trainer: Any, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        make_trainer(**options)


def test_episodes_make_the_number_of_steps(make_trainer: Any) -> None:
    trainer = make_trainer(total_episodes=50, gradient_accumulation_steps=2, num_iterations=3)
    assert trainer.args.max_steps == 3 * 3  # three rollouts of 16, one optimiser step an epoch


def test_the_order_of_prompts_is_a_matter_of_seed_and_epoch(make_trainer: Any) -> None:
    """A process that resumes in the second epoch goes on in the order of the second, not of the first."""
    trainer = make_trainer(num_iterations=1)
    sampler = trainer._get_train_sampler()
    first, again = list(sampler), list(sampler)
    trainer.state.global_step = 4  # 32 prompts are two rollouts of two steps
    second = list(sampler)
    fresh = make_trainer(num_iterations=1)
    fresh.state.global_step = 6
    assert first == again != second
    assert list(fresh._get_train_sampler()) == second
    assert sorted(set(second)) == list(range(32))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_saved_model_is_the_policy_alone(make_trainer: Any, tmp_path: Path, adapter: str | None) -> None:
    from safetensors import safe_open

    trainer = make_trainer(adapter, max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "ref").exists()
    (file,) = (tmp_path / "saved").glob("*.safetensors")
    with safe_open(file, "pt") as tensors:
        names = list(tensors.keys())
    assert names
    assert not any("critic" in name for name in names)
    ids = torch.tensor([[5, 6, 7]])
    if adapter is None:
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
        torch.testing.assert_close(saved(input_ids=ids).logits, trainer.model(input_ids=ids).logits)
    else:
        assert all("lora_" in name for name in names)
    trainer.save_critic(tmp_path / "critic.safetensors")
    assert (tmp_path / "critic.safetensors").is_file()


@pytest.mark.parametrize("adapter", [None, "new"])
def test_it_learns(make_trainer: Any, logged: Any, adapter: str | None) -> None:
    """The letter a comes up far more often after 500 to 800 completions, whole and with an adapter."""
    trainer = make_trainer(
        adapter,
        change=sharpen if adapter else None,
        per_device_train_batch_size=16 if adapter is None else 32,
        steps_per_generation=4 if adapter is None else 2,
        prompts=64,
        max_completion_length=12,
        total_episodes=64 * 12,
        learning_rate=4e-3 if adapter is None else 1e-2,
        critic_learning_rate=1e-2,
        critic_warmup_steps=2,
        lr_scheduler_type="constant",
        beta=0.01,
        missing_eos_penalty=0.0,
    )
    trainer.train()
    scores = logged(trainer, "score")
    assert sum(scores[-2:]) / 2 > 3 * (scores[0] + 0.1), scores


@pytest.mark.gpu
@pytest.mark.parametrize("adapter", [None, "new"])
def test_on_a_gpu_it_starts_at_zero_and_learns(make_trainer: Any, logged: Any, adapter: str | None) -> None:
    trainer = make_trainer(
        adapter,
        change=sharpen,
        use_cpu=False,
        bf16=True,
        prompts=64,
        per_device_train_batch_size=32,
        total_episodes=64 * 12,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        missing_eos_penalty=0.0,
    )
    trainer.train()
    scores = logged(trainer, "score")
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=0.02)
    assert logged(trainer, "val/ratio")[0] == pytest.approx(1, abs=0.02)
    assert scores[-1] > 2 * (scores[0] + 0.1), scores
