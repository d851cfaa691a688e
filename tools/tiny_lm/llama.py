"""The Llama forward pass as plain functions, shared by the teacher's decoder and the student's training.

Weights come from (and, for the student, stay the parameters of) a transformers LlamaForCausalLM, so a model
trained here is saved by transformers. Source of the equations: transformers models/llama/modeling_llama.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama: heads `heads`, key-value heads `kv`, head size `head`, RoPE base `theta`."""

    layers: int
    hidden: int
    heads: int
    kv: int
    head: int
    eps: float
    theta: float


def shape_of(config: Any) -> Shape:
    """Read the sizes from a transformers LlamaConfig."""
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = getattr(config, "rope_parameters", None) or {"rope_theta": config.rope_theta}
    return Shape(
        config.num_hidden_layers, config.hidden_size, heads, config.num_key_value_heads, head,
        config.rms_norm_eps, float(rope["rope_theta"]),
    )  # fmt: skip


def layer_weights(layer: Any) -> tuple[Tensor, ...]:
    """(norm1, qkv, out, norm2, gate_up, down) of one decoder layer; differentiable, fused by concatenation."""
    attention, mlp = layer.self_attn, layer.mlp
    qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
    first, second = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
    return first, qkv, attention.o_proj.weight, second, gate_up, mlp.down_proj.weight


def rope(positions: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin for integer `positions` (…): two (…, 1, head) tensors, angles in float32."""
    powers = torch.arange(0, shape.head, 2, device=positions.device, dtype=torch.float32) / shape.head
    angles = positions[..., None].float() * torch.exp(-math.log(shape.theta) * powers)
    angles = torch.cat([angles, angles], -1).unsqueeze(-2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE to x (…, heads, head), the halves convention of Llama in transformers."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def before_attention(
    x: Tensor, norm: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, shape: Shape
) -> tuple[Tensor, Tensor, Tensor]:
    """x (…, hidden) → q (…, heads, head), k and v (…, kv, head), with RoPE applied."""
    both = linear(rms_norm(x, (shape.hidden,), norm, shape.eps), qkv).unflatten(-1, (-1, shape.head))
    turned = rotate(both[..., : shape.heads + shape.kv, :], cos, sin)
    q, k = turned[..., : shape.heads, :], turned[..., shape.heads :, :]
    return q, k, both[..., shape.heads + shape.kv :, :]


def after_attention(
    x: Tensor, mixed: Tensor, out: Tensor, norm: Tensor, gate_up: Tensor, down: Tensor, shape: Shape
) -> Tensor:
    """Output projection, residual and MLP: x (…, hidden), mixed (…, heads, head) → (…, hidden)."""
    x = x + linear(mixed.flatten(-2), out)
    gate, up = linear(rms_norm(x, (shape.hidden,), norm, shape.eps), gate_up).chunk(2, -1)
    return x + linear(silu(gate) * up, down)


def full_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q (b, t, heads, head), k and v (b, t, kv, head) → (b, t, heads, head); causal when mask is None."""
    repeat = q.shape[2] // k.shape[2]
    k, v = (z.repeat_interleave(repeat, 2).transpose(1, 2) for z in (k, v))
    mixed = scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=mask, is_causal=mask is None)
    return mixed.transpose(1, 2)


def hidden_states(
    x: Tensor, layers: list[tuple[Tensor, ...]], final: Tensor, shape: Shape, positions: Tensor,
    mask: Tensor | None = None, keep: Callable[[int, Tensor, Tensor], None] | None = None,
    before: Callable[..., Any] = before_attention, after: Callable[..., Any] = after_attention,
) -> Tensor:  # fmt: skip
    """Embedded tokens x (b, t, hidden) → normalised last states; `keep(layer, k, v)` sees keys and values.
    `before` and `after` may be compiled versions of the functions above."""
    cos, sin = rope(positions, shape, x.dtype)
    for number, (norm, qkv, out, norm2, gate_up, down) in enumerate(layers):
        q, k, v = before(x, norm, qkv, cos, sin, shape)
        if keep is not None:
            keep(number, k, v)
        x = after(x, full_attention(q, k, v, mask), out, norm2, gate_up, down, shape)
    return rms_norm(x, (shape.hidden,), final, shape.eps)
