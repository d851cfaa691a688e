"""The critic, and the one forward of actor and critic together.

The critic is a submodule of the policy, so that DDP, FSDP2 and DeepSpeed see one model with one forward. It
is a network of its own: a copy for full training, and with LoRA its own adapter over the policy's frozen base
weights, which the two share. It is never merged, saved or sent anywhere with the policy.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import disable_dropout_in_model, maybe_gather_lm_head_ctx

from alignment.backend.packed import states

VOCABULARY_TILE = 32_768  # entries of the vocabulary whose logits a GPU holds at a time


def unwrap(model: Any) -> Any:
    """The transformers model inside a PeftModel, adapter layers and all; any other model as it is."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def without_dropout(model: Any) -> Any:
    """The model with every dropout at 0, in place: old and new log-probabilities must be its own."""
    disable_dropout_in_model(model)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):  # a number that the attention function is called with
            module.attention_dropout = 0.0
    return model


class Critic(nn.Module):
    """V(s_t): a transformer backbone and a linear head, float32 and zero at first."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, lengths: Tensor, places: Tensor, packed: bool = True) -> Tensor:
        """input_ids (T,) int64, sequences of lengths (b,) end to end; places (N,) -> values (N,) float32."""
        hidden = states(self.backbone, input_ids, lengths, packed)[places]
        with torch.autocast(hidden.device.type, enabled=False):
            return self.head(hidden.float()).squeeze(-1)

    def save(self, path: str | Path) -> None:
        """Write what is trained (with LoRA: adapter and head) to a safetensors file."""
        save_file({name: p.detach().cpu().contiguous() for name, p in self._trained()}, str(path))

    def load(self, path: str | Path) -> None:
        """Take in, bit for bit, what `save` wrote."""
        saved = load_file(str(path))
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(saved[name])

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.named_parameters() if p.requires_grad]


def critic_of_policy(policy: Any, lora: LoraConfig | None, share: bool) -> Critic:
    """A critic that starts as the policy's backbone: a copy to train, or `lora` over its frozen weights.

    share: hold the frozen weights once for both (not under FSDP2 or ZeRO-3, which shard each module's own).
    An adapter that the policy has is left off the critic.
    """
    kept = {id(t): t for t in chain(policy.parameters(), policy.buffers())} if lora and share else {}
    twin = copy.deepcopy(policy, kept)
    return Critic(_backbone(twin.unload() if isinstance(twin, PeftModel) else twin, lora))


def critic_of_reward_model(reward: Any, lora: LoraConfig | None, policy: Any | None = None) -> Critic:
    """A critic that starts as the reward model's backbone, whose head is left behind.

    reward: AutoModelForSequenceClassification, or a PeftModel of it, of the caller's own: it is taken apart.
    Without `lora` all weights are trained, an adapter merged first. With it a reward adapter goes on being
    trained, a plain model gets a new one, and frozen weights equal to those of `policy` are held once.
    """
    if isinstance(reward, PeftModel) and lora is not None:
        backbone: Any = reward.get_base_model().base_model  # the adapter's layers are inside
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_("lora_" in name)
    else:
        backbone = _backbone(reward.merge_and_unload() if isinstance(reward, PeftModel) else reward, lora)
    if lora is not None and policy is not None:
        _share_equal_weights(backbone, unwrap(policy).base_model)
    return Critic(backbone)


def _backbone(model: Any, lora: LoraConfig | None) -> Any:
    """The backbone of a model with a head: to train whole, or frozen with the layers of `lora` inside."""
    if lora is None:
        return model.base_model.requires_grad_(True)
    own = copy.deepcopy(lora)  # PEFT writes into it
    own.task_type, own.modules_to_save, own.inference_mode = None, None, False
    # The whole model is adapted: the names that the config targets are those of its layers.
    return get_peft_model(model, own).get_base_model().base_model


def _share_equal_weights(mine: nn.Module, theirs: nn.Module) -> None:
    """Let frozen parameters of `mine` that equal the same-named ones of `theirs` be those."""
    theirs_by_name = {name.replace(".base_layer", ""): p for name, p in theirs.named_parameters()}
    for prefix, module in mine.named_modules():
        for name, parameter in list(module._parameters.items()):
            twin = theirs_by_name.get(f"{prefix}.{name}".removeprefix(".").replace(".base_layer", ""))
            if parameter is None or parameter.requires_grad or twin is None or twin.shape != parameter.shape:
                continue
            if twin.dtype == parameter.dtype and torch.equal(twin, parameter.to(twin.device)):
                module._parameters[name] = twin


def join(policy: Any, critic: Critic | None, packed: bool = True) -> None:
    """Hang `critic` on `policy`, and let `policy(input_ids, places=…)` be `actor_critic_forward`, in place.

    packed False: the backbones are given padded rows (see alignment.backend.packed.why_not_packed).

    Any other call, generation included, goes to the forward that was there. The forward is replaced on the
    instance: wrappers (DDP, FSDP2, autocast) find it.
    """
    if critic is not None:
        policy.critic = critic
    plain = policy.forward

    @functools.wraps(type(policy).forward)  # generate() checks its arguments against the signature
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "places" in kwargs:
            return actor_critic_forward(self, *args, **(kwargs | {"packed": packed}))
        return plain(*args, **kwargs)

    policy.forward = MethodType(forward, policy)


@contextmanager
def critic_apart(policy: Any) -> Iterator[None]:
    """Within it, `policy` has no critic: for saving, for weight sync, for the actor's optimiser groups."""
    critic = policy._modules.pop("critic", None)
    try:
        yield
    finally:
        if critic is not None:
            policy._modules["critic"] = critic


def actor_critic_forward(
    policy: Any,
    input_ids: Tensor,
    lengths: Tensor,
    places: Tensor,
    targets: Tensor,
    actor: bool = True,
    critic: bool = True,
    entropy: bool = False,
    packed: bool = True,
) -> dict[str, Tensor]:
    """One pass of either or both over prompts with completions, read where completion tokens come next.

    input_ids (T,) int64: prompts with their completions, end to end, lengths (b,) of them. places (N,) int64:
    targets (N,), the completion tokens, come after input_ids[places]. -> (N,) float32 each: "logps", their
    log-probabilities; "entropy", in nats, of the distributions that they were drawn from; "values", V before
    each.
    """
    out: dict[str, Tensor] = {}
    if actor:
        model = unwrap(policy)
        hidden = states(model.base_model, input_ids, lengths, packed)[places]
        out["logps"], entropies = token_logps(model, hidden, targets, entropy)
        if entropies is not None:
            out["entropy"] = entropies
    if critic:
        out["values"] = policy.critic(input_ids, lengths, places, packed)
    return out


def token_logps(model: Any, hidden: Tensor, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of `targets` (N,) under the LM head at `hidden` (N, d), entropies (N,), float32."""
    config = model.config.get_text_config()
    softcap, scale = getattr(config, "final_logit_softcapping", None), _logit_scale(config)
    # In tiles no logits are kept; on a CPU, where they are few, the plain way takes less than half the time.
    logps = tiled_logps if hidden.is_cuda else plain_logps
    return logps(hidden, model.get_output_embeddings(), targets, softcap, scale, entropy)


def tiled_logps(
    hidden: Tensor, head: Any, targets: Tensor, softcap: float | None, scale: float, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """`token_logps` by TRL's kernel."""
    wanted = ("entropy",) if entropy else ()
    with maybe_gather_lm_head_ctx(head.weight, head.bias):
        logps, entropies, *_ = ChunkedLogProbFunction.apply(
            hidden, head.weight, head.bias, targets, 1.0, VOCABULARY_TILE, softcap, scale, wanted
        )
    return logps, entropies


def plain_logps(
    hidden: Tensor, head: Any, targets: Tensor, softcap: float | None, scale: float, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """`token_logps` with all logits (N, vocabulary) in memory."""
    logits = head(hidden).float()
    if scale != 1.0:
        logits = logits * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logps = torch.log_softmax(logits, dim=-1)
    entropies = -(logps.exp() * logps).sum(-1) if entropy else None
    return logps.gather(1, targets[:, None]).squeeze(1), entropies


def _logit_scale(config: Any) -> float:
    """What the model family multiplies its logits by (Cohere, Granite, Falcon-H1 …); 1 for most."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)
