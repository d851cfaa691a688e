"""One decode step's attention over a key-value cache: a Triton kernel, and the same in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a machine without Triton takes the plain path
    triton = None


def plain_decode(q: Tensor, keys: Tensor, values: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """q (b, heads, d), keys and values (b, kv, t, d), each row attends to [start, end) → (b, heads, d)."""
    b, heads, d = q.shape
    kv, length = keys.shape[1], keys.shape[2]
    at = torch.arange(length, device=q.device)
    hidden = (at[None] < start[:, None]) | (at[None] >= end[:, None])
    scores = torch.matmul(q.view(b, kv, heads // kv, d), keys.transpose(2, 3)).float() * d**-0.5
    weights = scores.masked_fill(hidden[:, None, None], float("-inf")).softmax(-1)
    return torch.matmul(weights.to(values.dtype), values).view(b, heads, d)


if triton is not None:

    @triton.jit
    def _kernel(
        q_ptr, k_ptr, v_ptr, o_ptr, start_ptr, end_ptr, scale, length,
        KV: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0)
        head = tl.program_id(1)
        g = tl.arange(0, ROWS)
        d = tl.arange(0, D)
        base = (row * KV + head) * GROUP * D
        real = (g < GROUP)[:, None]
        q = tl.load(q_ptr + base + g[:, None] * D + d[None, :], mask=real, other=0.0)
        start = tl.load(start_ptr + row)
        end = tl.load(end_ptr + row)
        cache = (row.to(tl.int64) * KV + head) * length * D
        top = tl.full((ROWS,), -1e30, tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        mixed = tl.zeros((ROWS, D), tl.float32)
        for first in range(start, end, BLOCK):
            at = first + tl.arange(0, BLOCK)
            seen = at < end
            where = cache + at[:, None] * D + d[None, :]
            k = tl.load(k_ptr + where, mask=seen[:, None], other=0.0)
            v = tl.load(v_ptr + where, mask=seen[:, None], other=0.0)
            scores = tl.dot(q, tl.trans(k)) * scale
            scores = tl.where(seen[None, :], scores, -1e30)
            new = tl.maximum(top, tl.max(scores, 1))
            weights = tl.exp(scores - new[:, None])
            shrink = tl.exp(top - new)
            total = total * shrink + tl.sum(weights, 1)
            mixed = mixed * shrink[:, None] + tl.dot(weights.to(v.dtype), v)
            top = new
        mixed = mixed / total[:, None]
        tl.store(o_ptr + base + g[:, None] * D + d[None, :], mixed.to(o_ptr.dtype.element_ty), mask=real)


def triton_decode(q: Tensor, keys: Tensor, values: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The same as `plain_decode`, reading only [start, end) of each row. start and end are int32, end > start."""
    b, heads, d = q.shape
    kv, length = keys.shape[1], keys.shape[2]
    q = q.contiguous()
    out = torch.empty_like(q)
    _kernel[(b, kv)](
        q, keys, values, out, start, end, d**-0.5, length,
        KV=kv, GROUP=heads // kv, D=d, BLOCK=32, ROWS=16, num_warps=2,
    )  # fmt: skip
    return out
