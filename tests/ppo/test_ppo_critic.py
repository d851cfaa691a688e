"""The critic and the joint forward: where they read, what they share, and that nothing else notices them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignment.backend.online_trainer import own_distribution
from alignment.ppo.critic import (
    Critic,
    critic_apart,
    critic_of_policy,
    critic_of_reward_model,
    join,
    plain_logps,
    tiled_logps,
    token_logps,
)
from alignment.ppo.rollout import forward_arguments, measure, pack, shuffled, token_values
from alignment.ppo.sampling import safe_sync

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
COMPLETIONS = [[20, 21], [30, 31, 32, 33, 2], [2]]


def lora(task: str = "CAUSAL_LM") -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type=task)


@pytest.fixture
def policy(toy_model: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32).eval()


def with_random_head(critic: Critic) -> Critic:
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    return critic


def random_adapter(model: PeftModel) -> PeftModel:
    """LoRA's B is zero at first: draw it, so that the adapter does something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3, generator=generator)
    return model


def test_the_joint_forward_reads_each_row_as_if_alone(policy: Any) -> None:
    critic = with_random_head(critic_of_policy(policy, None, share=True))
    join(policy, critic)
    rollout = pack(PROMPTS, COMPLETIONS, pad_id=0)
    with torch.no_grad():
        out = policy(**forward_arguments(rollout, torch.arange(3)), entropy=True)
        n = 0
        for head, tail in zip(PROMPTS, COMPLETIONS, strict=True):
            ids = torch.tensor([head + tail])
            logits = policy(input_ids=ids).logits[0, len(head) - 1 : -1]
            logps = torch.log_softmax(logits, -1)
            hidden = critic.backbone(input_ids=ids).last_hidden_state[0, len(head) - 1 : -1]
            part = slice(n, n + len(tail))
            picked = logps.gather(1, torch.tensor(tail)[:, None])[:, 0]
            torch.testing.assert_close(out["logps"][part], picked)
            torch.testing.assert_close(out["entropy"][part], -(logps.exp() * logps).sum(-1))
            torch.testing.assert_close(out["values"][part], (hidden @ critic.head.weight[0]))
            n += len(tail)
    assert n == len(out["logps"])


def test_measuring_in_any_batches_gives_the_same_table(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignment.ppo.rollout.MEASURED", 8)
    sizes: list[int] = []
    join(policy, with_random_head(critic_of_policy(policy, None, share=True)))
    rollout = pack(PROMPTS, COMPLETIONS, pad_id=0)
    with torch.no_grad():
        one, three, few = (
            measure(rollout, size, lambda batch: (sizes.append(len(batch["lengths"])), policy(**batch))[1])
            for size in (1, 3, None)
        )
    assert sizes[:4] == [1, 1, 1, 3]
    assert sum(sizes[4:]) == 3
    assert len(sizes) > 5  # more than one part of eight tokens
    for name in ("logps", "values"):
        torch.testing.assert_close(one[name], three[name])
        torch.testing.assert_close(few[name], three[name])
        assert one[name].shape == (3, 5)
        assert bool((one[name][0, 2:] == 0).all())
        assert bool((one[name][2, 1:] == 0).all())
    order = torch.tensor([2, 0])
    again = policy(**forward_arguments(rollout, order))
    table = {**rollout, **three}
    torch.testing.assert_close(token_values(table, order, ["logps"])["logps"], again["logps"])


def test_an_epoch_has_every_row_once_and_parts_of_like_size() -> None:
    lengths = torch.randint(1, 99, (48,), generator=torch.Generator().manual_seed(0))
    rollout = {"prompt_lengths": torch.ones(48, dtype=torch.long), "lengths": lengths}
    order = shuffled(rollout, rows_per_update=24, parts=4)
    assert sorted(order.flatten().tolist()) == list(range(48))
    assert order.shape == (2, 24)
    for row in order:
        sizes = lengths[row].view(4, 6).sum(1)
        assert sizes.max() < 1.2 * sizes.min(), sizes
    assert order.flatten().tolist() != shuffled(rollout, 24, 4).flatten().tolist()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0, "head_dim": 8}),
        ("cohere", {"logit_scale": 0.25}),
        ("granite", {"logits_scaling": 4.0}),
        ("qwen3", {"tie_word_embeddings": False, "head_dim": 8}),
    ],
)
def test_logps_follow_what_a_family_does_to_its_logits(family: str, options: dict[str, Any]) -> None:
    from transformers import AutoConfig

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **sizes, **heads, **options)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        wanted = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        hidden = model.base_model(input_ids=ids).last_hidden_state[0, :-1]
        got, _ = token_logps(model, hidden, ids[0, 1:], entropy=False)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("softcap", "scale"), [(None, 1.0), (3.0, 0.5)])
def test_tiles_give_what_all_logits_give_gradients_too(softcap: float | None, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(16, 200, bias=False)
    torch.nn.init.normal_(head.weight, generator=generator)
    hidden = torch.randn(30, 16, generator=generator, requires_grad=True)
    targets = torch.randint(200, (30,), generator=generator)
    found = []
    for logps in (tiled_logps, plain_logps):
        got, entropies = logps(hidden, head, targets, softcap, scale, True)
        assert entropies is not None
        grads = torch.autograd.grad((got * 2 + entropies).sum(), [hidden, head.weight])
        found.append((got, entropies, *grads))
        assert logps(hidden, head, targets, softcap, scale, False)[1] is None
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_generation_and_saving_do_not_see_the_critic(policy: Any, tmp_path: Path) -> None:
    ids = torch.tensor([PROMPTS[0]])
    names = set(policy.state_dict())
    before = policy.generate(ids, max_new_tokens=4, do_sample=False)
    join(policy, critic_of_policy(policy, None, share=True))
    assert torch.equal(policy.generate(ids, max_new_tokens=4, do_sample=False), before)
    assert any(name.startswith("critic.") for name in policy.state_dict())
    with critic_apart(policy):
        assert set(policy.state_dict()) == names
    assert policy.critic is not None


def test_a_full_critic_is_a_copy_and_starts_at_zero(policy: Any) -> None:
    critic = critic_of_policy(policy, None, share=True)
    own = {p.data_ptr() for p in policy.parameters()}
    assert all(p.requires_grad and p.data_ptr() not in own for p in critic.parameters())
    assert bool((critic.head.weight == 0).all())
    assert bool((critic.head.bias == 0).all())


@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "adapter"])
def test_a_lora_critic_shares_the_frozen_base_and_nothing_else(policy: Any, adapted: bool) -> None:
    """Both graphs live at once: a step on one leaves the other's output as it was."""
    if adapted:
        policy = random_adapter(get_peft_model(policy, lora()))
    critic = critic_of_policy(policy, lora(), share=True)
    actor = policy if adapted else get_peft_model(policy, lora())
    join(actor, with_random_head(critic))
    shared = {p.data_ptr() for n, p in actor.named_parameters() if not n.startswith("critic.")}
    for name, parameter in critic.backbone.named_parameters():
        assert parameter.requires_grad == ("lora_" in name), name
        assert (parameter.data_ptr() in shared) == ("lora_" not in name), name
    batch = forward_arguments(pack(PROMPTS, COMPLETIONS, pad_id=0), torch.arange(3))
    before = actor(**batch)
    (before["logps"].sum() + before["values"].sum()).backward()
    trained = [p for p in critic.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    with torch.no_grad():
        for parameter in trained:
            parameter -= parameter.grad
        after = actor(**batch)
    torch.testing.assert_close(after["logps"], before["logps"].detach())
    assert not torch.allclose(after["values"], before["values"].detach())


def test_a_critic_without_sharing_holds_its_own_base(policy: Any) -> None:
    critic = critic_of_policy(policy, lora(), share=False)
    own = {p.data_ptr() for p in policy.parameters()}
    assert all(p.data_ptr() not in own for p in critic.parameters())


@pytest.fixture
def reward(toy_model: str) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(toy_model, num_labels=1, dtype=torch.float32)
    return model.eval()


def test_a_critic_starts_as_the_reward_model_with_a_new_head(policy: Any, reward: Any) -> None:
    reward.model.layers[0].mlp.up_proj.weight.data *= 2  # as if trained
    wanted = copy.deepcopy(reward.model)
    critic = critic_of_reward_model(reward, None)
    ids = torch.tensor([PROMPTS[0]])
    torch.testing.assert_close(
        critic.backbone(input_ids=ids).last_hidden_state, wanted(input_ids=ids).last_hidden_state
    )
    assert all(p.requires_grad for p in critic.parameters())
    assert bool((critic(ids[0], torch.tensor([ids.shape[1]]), torch.tensor([3])) == 0).all())


def test_a_lora_critic_of_a_plain_reward_model_shares_only_what_is_equal(policy: Any, reward: Any) -> None:
    reward.model.layers[0].mlp.up_proj.weight.data *= 2
    critic = critic_of_reward_model(reward, lora(), policy)
    own = {p.data_ptr() for p in policy.parameters()}
    for name, parameter in critic.backbone.named_parameters():
        equal = "lora_" not in name and "layers.0.mlp.up_proj" not in name
        assert (parameter.data_ptr() in own) == equal, name


@pytest.mark.parametrize("trained", ["adapter", "whole"])
def test_a_critic_of_a_reward_adapter_computes_what_that_did(policy: Any, reward: Any, trained: str) -> None:
    adapted = random_adapter(get_peft_model(reward, lora("SEQ_CLS")))
    ids = torch.tensor([PROMPTS[0]])
    wanted = adapted.get_base_model().model(input_ids=ids).last_hidden_state.detach()
    critic = critic_of_reward_model(adapted, lora() if trained == "adapter" else None, policy)
    torch.testing.assert_close(critic.backbone(input_ids=ids).last_hidden_state, wanted)
    own = {p.data_ptr() for p in policy.parameters()}
    shared = [n for n, p in critic.backbone.named_parameters() if p.data_ptr() in own]
    assert bool(shared) == (trained == "adapter")


def test_save_and_load_are_bit_exact_and_hold_what_is_trained(policy: Any, tmp_path: Path) -> None:
    from safetensors import safe_open

    critic = with_random_head(critic_of_policy(policy, lora(), share=True))
    critic.save(tmp_path / "critic.safetensors")
    with safe_open(tmp_path / "critic.safetensors", "pt") as saved:
        assert all("lora_" in name or name.startswith("head.") for name in saved.keys())  # noqa: SIM118
    other = critic_of_policy(policy, lora(), share=True)
    other.load(tmp_path / "critic.safetensors")
    for (name, a), (_, b) in zip(critic.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_hundred_syncs_leave_a_shared_bf16_base_bit_equal(toy_model: str) -> None:
    """TRL's sync to vLLM merges adapters in place, sends all parameters, unmerges: in bf16 that drifts."""
    base = AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.bfloat16)
    critic = critic_of_policy(base, lora(), share=True)
    policy = random_adapter(get_peft_model(base, lora()))
    join(policy, critic)
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}

    def sync() -> list[str]:
        policy.merge_adapter()
        sent = [name for name, _ in policy.named_parameters()]
        policy.unmerge_adapter()
        return sent

    for _ in range(100):
        with safe_sync(policy):
            assert not any("critic" in name for name in sync())
    for name, parameter in policy.named_parameters():
        assert torch.equal(parameter, before[name]), name
    sync()  # the unguarded one does drift, or this test shows nothing
    assert any(not torch.equal(p, before[name]) for name, p in policy.named_parameters())


def test_rollouts_take_no_warper_from_the_models_own_settings(policy: Any) -> None:
    """training.md 10: a generation_config.json with top_k 1 would make every sample the same."""
    from transformers import GenerationConfig

    policy.generation_config = GenerationConfig(no_repeat_ngram_size=1, min_p=0.99, do_sample=True)
    ids = torch.tensor([PROMPTS[0]]).repeat(8, 1)
    config = GenerationConfig(max_new_tokens=60, do_sample=True, top_k=0, pad_token_id=0, eos_token_id=299)
    torch.manual_seed(0)
    with own_distribution(policy):
        free = policy.generate(ids, generation_config=config)[:, 4:]
    warped = policy.generate(ids, generation_config=config)[:, 4:]
    assert policy.generation_config.min_p == 0.99
    assert len({tuple(row) for row in free.tolist()}) == 8
    assert any(len(set(row)) < len(row) for row in free.tolist())  # repeats come up in 60 of 300
    assert all(len(set(row)) == len(row) for row in warped.tolist())
