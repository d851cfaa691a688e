"""Training without padding: a decoder is handed padded batches and runs on their real tokens alone.

TRL's trainers pad. Here the backbone's own forward takes the padding out and puts it back behind (zeros),
so nothing of the trainers is overridden; each row attends to itself (see packed.py).
"""

from __future__ import annotations

import os
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast

from alignment.backend.heads import unwrap
from alignment.backend.packed import NO_MASK, arguments, compile_layers, why_not_packed

# What a caller may ask for that is of the padded shape: it gets the model's own forward.
WHOLE = ("output_hidden_states", "output_attentions", "output_router_logits")


def quicken(model: Any, args: Any) -> str | None:
    """Before a trainer is built: let `model` skip padding, and compile its layers if `args.torch_compile`.

    args: the trainer's, on whose device the model is put. Returns why batches stay padded, or None.
    """
    if os.environ.get("ACCELERATE_USE_FSDP") or os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        reason: str | None = "training is sharded"
    else:
        if model.device != args.device:
            model.to(args.device)
        half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        # as it will run: kernels differ
        with torch.autocast(model.device.type, half, enabled=half is not None):
            reason = without_padding(model)
    if args.torch_compile:
        compile_layers(model)
    return reason


def without_padding(model: Any) -> str | None:
    """Let this decoder skip the padding of its batches, in place; or why it cannot, as part of a sentence.

    Calls that are given no (B, T) mask, or fill a cache, are as before. Costs a few short forward passes.
    """
    backbone = unwrap(model).base_model
    if getattr(backbone.forward, "__func__", None) is _forward:
        return None
    if hasattr(backbone, "_hf_hook"):
        return f"{type(backbone).__name__} is spread over devices"
    reason = why_not_packed(model)
    if reason is None:
        backbone.forward = MethodType(_forward, backbone)
    return reason


def _forward(
    backbone: Any, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
) -> Any:
    """The backbone's forward. input_ids, attention_mask (B, T); last_hidden_state (B, T, d), 0 in padding."""
    own = type(backbone).forward
    if attention_mask is None and "cu_seq_lens_q" in kwargs:  # TRL's packed rows: their mask would be T²
        attention_mask = torch.empty(NO_MASK, device=kwargs["cu_seq_lens_q"].device)
    if (
        input_ids is None
        or attention_mask is None
        or attention_mask.dim() != 2
        or not _plain(backbone, kwargs)
    ):
        return own(backbone, input_ids=input_ids, attention_mask=attention_mask, **kwargs)
    lengths = attention_mask.sum(dim=1).cpu()
    real = attention_mask.flatten().nonzero()[:, 0]
    kwargs |= arguments(lengths, input_ids.device)
    hidden = own(backbone, input_ids=input_ids.flatten()[real][None], **kwargs).last_hidden_state[0]
    rows = hidden.new_zeros((attention_mask.numel(), hidden.shape[-1])).index_copy(0, real, hidden)
    return BaseModelOutputWithPast(last_hidden_state=rows.view(*input_ids.shape, -1))


def _plain(backbone: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call asks for the last hidden states of rows that begin here, and nothing besides."""
    if kwargs.get("use_cache") is not False or kwargs.get("past_key_values") is not None:
        return False
    if any(kwargs.get(name) or getattr(backbone.config, name, False) for name in WHOLE):
        return False
    # positions of padded rows are counted anew; any other tensor is of a shape that is not known here
    return not any(isinstance(value, Tensor) for name, value in kwargs.items() if name != "position_ids")
