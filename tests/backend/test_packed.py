"""Sequences laid end to end give what they give alone, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from alignment.backend.heads import unwrap
from alignment.backend.packed import attend, compile_layers, states, why_not_packed

LENGTHS = [9, 1, 5, 17, 2]
SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def a_model(config: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config or LlamaConfig(**SMALL), **options).eval()


def some_ids() -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(1)
    return [torch.randint(97, (n,), generator=dice) for n in LENGTHS]


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_hidden_states_and_gradients_are_those_of_each_sequence_alone(config: Any) -> None:
    rows, backbone = some_ids(), a_model(config(**SMALL)).base_model
    weights = torch.randn(sum(LENGTHS), 32, generator=torch.Generator().manual_seed(2))
    found = []
    for packed in (True, False, None):
        backbone.zero_grad()
        if packed is None:
            hidden = torch.cat([backbone(input_ids=x[None]).last_hidden_state[0] for x in rows])
        else:
            hidden = states(backbone, torch.cat(rows), torch.tensor(LENGTHS), packed)
        (hidden * weights).sum().backward()
        found.append((hidden.detach(), [p.grad.clone() for p in backbone.parameters()]))
    for hidden, gradients in found[:2]:
        torch.testing.assert_close(hidden, found[2][0], atol=1e-5, rtol=1e-5)
        for mine, alone in zip(gradients, found[2][1], strict=True):
            torch.testing.assert_close(mine, alone, atol=1e-4, rtol=1e-4)


def test_with_checkpointing_the_recomputed_layers_see_the_same_sequences() -> None:
    rows, model = some_ids(), a_model()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()
        model.zero_grad()
        states(model.base_model, torch.cat(rows), torch.tensor(LENGTHS)).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.base_model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_calls_without_packed_sequences_are_transformers_own() -> None:
    rows, model = some_ids(), a_model()
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(x) for x in rows], batch_first=True)
    eager = a_model(attn_implementation="eager")
    states(model.base_model, torch.cat(rows), torch.tensor(LENGTHS))  # `attend` is in place from here on
    with torch.no_grad():
        mine, theirs = (m(input_ids=ids, attention_mask=mask).logits[mask.bool()] for m in (model, eager))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_a_model_that_is_not_packed_here_keeps_its_own_mask() -> None:
    """As TRL's SFTTrainer hands packed rows to a model with a sliding window."""
    sliding = a_model(MistralConfig(**SMALL, sliding_window=4)).base_model
    assert why_not_packed(a_model()) is None  # `attend` is in place from here on
    lengths = torch.tensor(LENGTHS)
    bounds = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    positions = torch.cat([torch.arange(n) for n in LENGTHS])
    packed = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 17, "max_length_k": 17}
    with torch.no_grad():
        got = sliding(
            input_ids=torch.cat(some_ids())[None], position_ids=positions[None], use_cache=False, **packed
        ).last_hidden_state[0]
        alone = [sliding(input_ids=ids[None]).last_hidden_state[0] for ids in some_ids()]
    torch.testing.assert_close(got, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_which_models_must_be_padded() -> None:
    assert why_not_packed(a_model()) is None
    assert "is not sdpa" in str(why_not_packed(a_model(attn_implementation="eager")))
    assert "sliding" in str(why_not_packed(a_model(MistralConfig(**SMALL, sliding_window=8))))
    gpt2 = a_model(GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    reason = why_not_packed(gpt2)
    if reason is None:  # then it must be true
        got = states(gpt2.base_model, torch.cat(some_ids()), torch.tensor(LENGTHS))
        alone = [gpt2.base_model(input_ids=x[None]).last_hidden_state[0] for x in some_ids()]
        torch.testing.assert_close(got, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_an_encoder_is_padded_however_little_its_attention_does() -> None:
    torch.manual_seed(0)
    encoder = AutoModelForSequenceClassification.from_config(
        BertConfig(**{**SMALL, "initializer_range": 1e-3}, attn_implementation="sdpa")
    )
    assert "what comes later" in str(why_not_packed(encoder))


def test_a_model_inside_an_adapter_is_taken_as_the_adapter_is() -> None:
    tuned = get_peft_model(a_model(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    assert why_not_packed(tuned) is None
    assert why_not_packed(unwrap(tuned)) is None


def test_a_model_that_mixes_sequences_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from alignment.backend import packed

    def forgetful(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        options.pop("cu_seq_lens_q", None)
        return attend(module, query, key, value, None, **options)

    monkeypatch.setattr(packed, "attend", forgetful)
    assert "mixes sequences" in str(why_not_packed(a_model()))
    monkeypatch.undo()
    assert why_not_packed(a_model()) is None


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_flash_attention_gives_the_same(compiled: bool) -> None:
    config = LlamaConfig(**SMALL | {"hidden_size": 256, "num_attention_heads": 4})
    rows, model = [x.cuda() for x in some_ids()], a_model(config).cuda()
    alone = torch.cat([model.base_model(input_ids=x[None]).last_hidden_state[0] for x in rows])
    alone.square().sum().backward()
    wanted = [p.grad.clone() for p in model.base_model.parameters()]
    model.zero_grad()
    if compiled:
        compile_layers(model)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert why_not_packed(model) is None
        hidden = states(model.base_model, torch.cat(rows), torch.tensor(LENGTHS))
    hidden.float().square().sum().backward()
    assert (hidden.float() - alone).norm() < 0.02 * alone.norm()
    for parameter, gradient in zip(model.base_model.parameters(), wanted, strict=True):
        assert (parameter.grad - gradient).norm() < 0.05 * gradient.norm()


@pytest.mark.slow
def test_layers_are_compiled_once_for_each_way_in_which_they_are_called() -> None:
    from torch._dynamo.utils import counters

    from alignment.backend.generation.graph import GraphEngine

    rows, model = some_ids(), a_model()
    engine = GraphEngine(model, compiled=True)
    counters.clear()
    for prompts in ([[5, 6, 7], [8, 9]] * 12, [[5, 6], [8, 9, 10, 11], [3]]):  # read and sample
        engine.decode(prompts, 9, [2], pad_id=0)
    for lengths in (LENGTHS, LENGTHS[:2], [3, 3, 30]):  # with and without gradients
        ids = torch.arange(sum(lengths))
        states(model.base_model, ids, torch.tensor(lengths)).sum().backward()
        with torch.no_grad():
            states(model.base_model, ids, torch.tensor(lengths))
    assert counters["stats"]["unique_graphs"] <= 4, counters["stats"]
    with torch.no_grad():
        alone = torch.cat([model.base_model(input_ids=x[None]).last_hidden_state[0] for x in rows])
        together = states(model.base_model, torch.cat(rows), torch.tensor(LENGTHS))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
