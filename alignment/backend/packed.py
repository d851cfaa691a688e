"""Forward passes without padding: sequences one after the other, each attending to itself alone.

transformers hands what a model's forward is given on to its attention function. The one of `sdpa` is replaced
here by `attend`, which knows sequences laid end to end; without them it is transformers' own. On a GPU in
bfloat16 or float16 it is FlashAttention's kernel for sequences of any length, as PyTorch ships it; elsewhere
the attention alone is done on padded rows.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch._dynamo
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import StaticCache
from transformers.cache_utils import StaticLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from alignment.backend.heads import unwrap

NO_MASK = (1, 1, 1, 1)  # shape of the mask that says: sequences end to end, each causal, nothing else masked
PROBE = (7, 4, 5)  # lengths of the sequences that `why_not_packed` tries
TOLERANCE = {True: 0.05, False: 1e-3}  # relative, in half precision and in float32; rounding stays below


def states(backbone: Any, ids: Tensor, lengths: Tensor, packed: bool = True) -> Tensor:
    """Last hidden states (T, d) of B sequences: ids (T,) int64, end to end, and lengths (B,), on any device.

    packed False pads them for the model instead (see `why_not_packed`). backbone: a decoder without a head.
    """
    if not packed:
        rows, places = _rows_and_places(lengths.to(ids.device), len(ids))
        padded = ids.new_zeros((len(lengths), int(lengths.max())))
        padded[rows, places] = ids
        return backbone(input_ids=padded, use_cache=False).last_hidden_state[rows, places]
    return backbone(input_ids=ids[None], **arguments(lengths, ids.device)).last_hidden_state[0]


def arguments(lengths: Tensor, device: Any) -> dict[str, Any]:
    """What a decoder's forward is given besides (1, T) ids for B sequences laid end to end; lengths (B,)."""
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)
    bounds = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    bounds[1:] = lengths.cumsum(0)
    total, longest = int(bounds[-1]), int(lengths.max())
    bounds, lengths = bounds.to(device, non_blocking=True), lengths.to(device, non_blocking=True)
    starts = torch.repeat_interleave(bounds[:-1].long(), lengths, output_size=total)
    return {
        "position_ids": (torch.arange(total, device=device) - starts)[None],
        # Of four dimensions, it is passed through: transformers would build a mask of T².
        "attention_mask": torch.empty(NO_MASK, device=device),
        "use_cache": False,
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    cache_rows: Tensor | None = None,
    cache_places: Tensor | None = None,
    cache_used: Tensor | None = None,
    cacheable: list[tuple[Any, Tensor, Tensor]] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function: query (1, H, T, D), keys and values (1, H_kv, T, D) -> (1, T, H, D), None.

    cu_seq_lens_q (B+1,) int32: where sequences of at most max_length_q tokens begin and end; without them, or
    with a mask of its own (TRL packs rows for models with sliding windows too), it is `sdpa`.
    cache_rows, cache_places (T,): where keys and values go in the module's `cached_keys` and `cached_values`
    (rows, length, H_kv, D). cache_used (B,) int32: each sequence is one new token that attends to so many
    tokens of its row of the cache; cu_seq_lens_k (B+1,) is where these rows begin.
    cacheable: where the module is noted, with the keys and values that it would cache.
    """
    packed = attention_mask is not None and attention_mask.shape == NO_MASK
    if not packed or cu_seq_lens_q is None or max_length_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    q, k, v = (end_to_end(x) for x in (query, key, value))
    if cacheable is not None:
        cacheable.append((module, k, v))
    if cache_rows is not None:
        module.cached_keys[cache_rows, cache_places] = k
        module.cached_values[cache_rows, cache_places] = v
    flash = q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and not dropout
    if cache_used is not None:
        cache = module.cached_keys, module.cached_values
        if flash:
            out = _flash_over_cache(q, *cache, cu_seq_lens_q, cu_seq_lens_k, cache_used, scaling)
        else:
            out = _padded_over_cache(q, *cache, cache_used, scaling)
    elif flash:
        out = _flash(q, k, v, cu_seq_lens_q, max_length_q, scaling)
    else:
        out = _padded(q, k, v, cu_seq_lens_q, max_length_q, scaling, dropout)
    return out[None], None


def end_to_end(x: Tensor) -> Tensor:
    """Queries, keys or values (1, H, T, D) -> (T, H, D), in the dtype of autocast where there is one.

    transformers rotates in the dtype of the hidden states, which are float32 where the weights are.
    """
    x = x[0].transpose(0, 1)
    on = torch.is_autocast_enabled(x.device.type)
    return x.to(torch.get_autocast_dtype(x.device.type)) if on else x


def _flash(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float | None) -> Any:
    from torch.nn.attention.varlen import varlen_attn

    new: dict[str, Any] = {"window_size": (-1, 0)}  # causal
    if "window_size" not in _VARLEN:
        new = {"is_causal": True}
    if "enable_gqa" in _VARLEN:  # before it, heads were grouped unasked
        new["enable_gqa"] = True
    return varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scale, **new)


def _varlen_options() -> frozenset[str]:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)


_VARLEN = _varlen_options()


@torch.library.custom_op("alignkit::flash_over_cache", mutates_args=())
def _flash_over_cache_op(
    q: Tensor, keys: Tensor, values: Tensor, q_bounds: Tensor, k_bounds: Tensor, used: Tensor, scale: float
) -> Tensor:
    options = {"scale": scale, "seqused_k": used}
    length = keys.shape[1]
    flat = keys.flatten(0, 1), values.flatten(0, 1)
    return torch.ops.aten._flash_attention_forward(
        q, *flat, q_bounds, k_bounds, 1, length, 0.0, False, False, **options
    )[0]


@_flash_over_cache_op.register_fake
def _(
    q: Tensor, keys: Tensor, values: Tensor, q_bounds: Tensor, k_bounds: Tensor, used: Tensor, scale: float
) -> Tensor:
    return torch.empty_like(q)


def _flash_over_cache(
    q: Tensor, keys: Tensor, values: Tensor, q_bounds: Any, k_bounds: Any, used: Tensor, scale: float | None
) -> Tensor:
    """q (B, H, D), one new token a row, over the first used[i] tokens of row i of the cache -> (B, H, D).

    The kernel is PyTorch's own; varlen_attn reaches its `seqused_k` from 2.13 on only.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _flash_over_cache_op(q.contiguous(), keys, values, q_bounds, k_bounds, used, scale)


def _padded_over_cache(q: Tensor, keys: Tensor, values: Tensor, used: Tensor, scale: float | None) -> Tensor:
    """As `_flash_over_cache`, with a mask."""
    mask = torch.arange(keys.shape[1], device=q.device) < used[:, None]
    out = scaled_dot_product_attention(
        q[:, :, None],
        keys.transpose(1, 2),
        values.transpose(1, 2),
        attn_mask=mask[:, None, None],
        scale=scale,
        enable_gqa=True,
    )
    return out[:, :, 0]


def _padded(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float | None, dropout: float
) -> Tensor:
    """As `_flash`: rows are filled up on the right, where a causal model does not look."""
    lengths = bounds.diff()
    rows, places = _rows_and_places(lengths, len(q))

    def wide(x: Tensor) -> Tensor:
        filled = x.new_zeros((len(lengths), longest, *x.shape[1:]))
        return filled.index_put((rows, places), x).transpose(1, 2)

    out = scaled_dot_product_attention(
        wide(q), wide(k), wide(v), is_causal=True, scale=scale, dropout_p=dropout, enable_gqa=True
    )
    return out.transpose(1, 2)[rows, places]


def _rows_and_places(lengths: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Of tokens laid end to end (T,): which sequence each is in, and where in it."""
    ends = lengths.cumsum(0)
    token = torch.arange(total, device=lengths.device)
    rows = torch.searchsorted(ends, token, right=True)
    return rows, token - (ends - lengths)[rows]


def why_not_packed(model: Any) -> str | None:
    """Why sequences of this decoder must be padded, as part of a sentence; None when they need not be.

    Tried on the model itself, where it stands: a few random tokens must have the hidden states that they have
    alone. Costs a few short forward passes.
    """
    inner = unwrap(model)
    config = inner.config.get_text_config()
    if config._attn_implementation != "sdpa":
        return f"attention {config._attn_implementation!r} is not sdpa"
    try:
        layers = StaticCache(config=config, max_cache_len=8).layers
    except (ValueError, NotImplementedError, AttributeError) as error:
        return f"{type(inner).__name__} has no static cache ({error})"
    if any(type(layer) is not StaticLayer for layer in layers):
        return f"{type(inner).__name__} has sliding or recurrent layers"
    backbone = inner.base_model
    if any(getattr(module, "is_causal", True) is False for module in backbone.modules()):
        return f"{type(inner).__name__} attends to what comes later"
    device, training = inner.device, backbone.training
    dice = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (sum(PROBE),), generator=dice).to(device)
    backbone.eval()
    try:
        with torch.no_grad():
            together = states(backbone, ids, torch.tensor(PROBE)).float()
            alone = torch.cat([states(backbone, x, torch.tensor([len(x)]), False) for x in ids.split(PROBE)])
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        return f"{type(inner).__name__} takes no sequences laid end to end ({str(error).splitlines()[0]})"
    finally:
        backbone.train(training)
    half = torch.is_autocast_enabled(device.type) or inner.dtype != torch.float32
    apart = (together - alone.float()).norm() / alone.float().norm()
    if not apart < TOLERANCE[half]:
        return f"{type(inner).__name__} mixes sequences that are laid end to end"
    return None


def compile_layers(model: Any) -> None:
    """Let torch.compile fuse what is in each layer, in place: one compilation serves all layers.

    It takes some ten seconds for each way that layers are called (training, scoring, sampling).
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 32)
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer) and module._compiled_call_impl is None:
            module.compile(dynamic=True)
