"""Batched sampling from a Llama: one prefill, then one decode step captured as a CUDA graph and replayed.

Off CUDA, or where Triton, torch.compile or the capture fails, the same step runs without it, and says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from decode_attention import plain_decode, triton, triton_decode
from llama import after_attention, before_attention, hidden_states, layer_weights, rope, shape_of
from torch import Tensor
from torch.nn.functional import linear, rms_norm


def sample(
    states: Tensor, embedding: Tensor, used: Tensor, penalty: float, temperature: float, min_p: float
) -> Tensor:
    """states (b, hidden) → sampled token ids (b,): softmax(logits / temperature) without the tokens whose
    probability is below `min_p` times the largest one. `penalty` (nats) is taken from the logits of tokens
    already `used` (b, vocabulary, bool), against loops. Sampled with the Gumbel trick."""
    logits = (linear(states, embedding).float() - penalty * used.float()) / temperature
    kept = logits >= logits.amax(-1, keepdim=True) + math.log(min_p)
    noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
    return (logits + noise).masked_fill(~kept, float("-inf")).argmax(-1)


class Decoder:
    """`batch` rows at a time, prompts left-padded to `prompt` tokens, at most `new` tokens each."""

    def __init__(
        self, model: Any, batch: int, prompt: int, new: int, eos: int,
        temperature: float, min_p: float, penalty: float,
    ) -> None:  # fmt: skip
        self.shape = shape_of(model.config)
        with torch.no_grad():
            self.layers = [tuple(w.detach() for w in layer_weights(layer)) for layer in model.model.layers]
        self.embedding = model.get_input_embeddings().weight.detach()
        self.head = model.get_output_embeddings().weight.detach()
        self.final = model.model.norm.weight.detach()
        self.device, self.dtype = self.embedding.device, self.embedding.dtype
        self.batch, self.prompt, self.new, self.eos = batch, prompt, new, eos
        self.settings = penalty, temperature, min_p
        size = (self.shape.layers, batch, self.shape.kv, prompt + new, self.shape.head)
        self.keys = torch.zeros(size, device=self.device, dtype=self.dtype)
        self.values = torch.zeros_like(self.keys)
        whole: dict[str, Any] = {"device": self.device, "dtype": torch.int32}
        self.start = torch.zeros(batch, **whole)  # first real token of a row
        self.end = torch.ones(batch, **whole)  # one past the last token a row may look at
        self.position = torch.zeros(batch, device=self.device, dtype=torch.long)
        self.slot = torch.zeros(1, device=self.device, dtype=torch.long)  # the cache column being written
        self.current = torch.zeros(batch, device=self.device, dtype=torch.long)
        self.done = torch.zeros(batch, device=self.device, dtype=torch.bool)
        self.out = torch.full((batch, new), eos, device=self.device, dtype=torch.long)
        self.used = torch.zeros(batch, len(self.head), device=self.device, dtype=torch.bool)
        self.before: Callable[..., Any] = before_attention
        self.after: Callable[..., Any] = after_attention
        self.sample: Callable[..., Any] = sample
        self.attend: Callable[..., Any] = plain_decode
        self.advance: Callable[[], None] = self.step
        self.how = "eager"

    @torch.no_grad()
    def prefill(self, ids: Tensor, start: Tensor, rows: int = 512) -> None:
        """ids (batch, prompt) left-padded, start (batch,): fills the cache and samples the first token."""
        at = torch.arange(self.prompt, device=self.device)
        causal = at[None, :] <= at[:, None]
        alone = torch.eye(
            self.prompt, device=self.device, dtype=torch.bool
        )  # padding looks at itself: no NaN
        self.latest = ids, start
        self.used.zero_()
        for first in range(0, self.batch, rows):
            part = slice(first, min(first + rows, self.batch))
            begin = start[part].to(self.device)
            mask = (causal[None] & (at[None, None, :] >= begin[:, None, None])) | alone

            def keep(layer: int, k: Tensor, v: Tensor, part: slice = part) -> None:
                self.keys[layer, part, :, : self.prompt] = k.transpose(1, 2)
                self.values[layer, part, :, : self.prompt] = v.transpose(1, 2)

            x = self.embedding[ids[part].to(self.device)]
            positions = (at[None] - begin[:, None]).clamp(min=0)
            states = hidden_states(
                x,
                self.layers,
                self.final,
                self.shape,
                positions,
                mask[:, None],
                keep,
                self.before,
                self.after,
            )
            self.current[part] = sample(states[:, -1], self.head, self.used[part], *self.settings)
        self.start.copy_(start)
        self.end.fill_(self.prompt)
        self.position.copy_(self.prompt - 1 - self.start)
        self.slot.fill_(self.prompt - 1)
        self.out.fill_(self.eos)
        self.out[:, 0] = self.current
        self.done.copy_(self.current == self.eos)
        self.used.scatter_(1, self.current[:, None], True)

    @torch.no_grad()
    def step(self) -> None:
        """Read `current`, write the next sampled token to it and to `out`. No host synchronisation."""
        self.slot.add_(1)
        self.position.add_(1)
        # a finished row looks at one token only, so that it costs no reading
        self.end.copy_(torch.where(self.done, self.start + 1, self.slot.to(torch.int32) + 1))
        cos, sin = rope(self.position, self.shape, self.dtype)
        x = self.embedding[self.current]
        for number, (norm, qkv, out, norm2, gate_up, down) in enumerate(self.layers):
            q, k, v = self.before(x, norm, qkv, cos, sin, self.shape)
            keys, values = self.keys[number], self.values[number]
            keys.index_copy_(2, self.slot, k.unsqueeze(2))
            values.index_copy_(2, self.slot, v.unsqueeze(2))
            mixed = self.attend(q, keys, values, self.start, self.end)
            x = self.after(x, mixed, out, norm2, gate_up, down, self.shape)
        states = rms_norm(x, (self.shape.hidden,), self.final, self.shape.eps)
        token = self.sample(states, self.head, self.used, *self.settings)
        token = token.masked_fill(self.done, self.eos)  # torch.where with a scalar copies from the host
        self.current.copy_(token)
        self.used.scatter_(1, token[:, None], True)
        self.out.index_copy_(1, self.slot - (self.prompt - 1), token[:, None])
        self.done.logical_or_(token == self.eos)

    def speed_up(self, log: Callable[[str], None]) -> None:
        """Try Triton attention, compiled pieces and the graph, in this order; keep what works. Needs one
        prefill before it, and a prefill after it (the state is used up)."""
        if self.device.type != "cuda":
            log("decoder: no CUDA, eager steps")
            return
        if triton is not None:
            self._try("triton attention", self._use_triton, log)
        self._try("compiled sampler", self._compile_sampler, log)
        self._try("compiled layers", self._compile_layers, log)
        self._try("CUDA graph", self._capture, log)

    def _try(self, name: str, change: Callable[[], None], log: Callable[[str], None]) -> None:
        saved = self.before, self.after, self.sample, self.attend, self.advance
        began = time.time()
        try:
            change()
            torch.cuda.synchronize()
            self.how += " + " + name
            self.slot.fill_(self.prompt)  # room for the next trial's steps
            log(f"decoder: {name} on, {time.time() - began:.1f} s, {self.milliseconds():.2f} ms a step")
        except Exception as error:  # whatever a compiler throws: the slower path still gives the corpus
            self.before, self.after, self.sample, self.attend, self.advance = saved
            log(f"decoder: {name} off: {type(error).__name__}: {str(error)[:300]}")

    def _use_triton(self) -> None:
        q = torch.randn(self.batch, self.shape.heads, self.shape.head, device=self.device, dtype=self.dtype)
        end = self.start + 1 + torch.arange(self.batch, device=self.device, dtype=torch.int32) % self.prompt
        end.clamp_(max=self.prompt)
        # 512 rows, compared with the plain way: float32 scores, bfloat16 values
        few = slice(0, min(512, self.batch))
        mine = triton_decode(q[few], self.keys[0, few], self.values[0, few], self.start[few], end[few])
        plain = plain_decode(q[few], self.keys[0, few], self.values[0, few], self.start[few], end[few])
        gap = (mine.float() - plain.float()).abs().max().item()
        if not gap < 0.03 * max(1.0, plain.float().abs().max().item()):
            raise RuntimeError(f"differs from the plain attention by {gap}")
        self.attend = triton_decode
        self.step()

    def _compile_sampler(self) -> None:
        self.sample = torch.compile(sample, dynamic=False)
        self.step()

    def _compile_layers(self) -> None:
        self.before = torch.compile(before_attention, dynamic=False)
        self.after = torch.compile(after_attention, dynamic=False)
        self.prefill(*self.latest)
        self.step()

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.graph = graph
        self.advance = graph.replay

    def milliseconds(self, steps: int = 8) -> float:
        """Time of one step, measured over `steps` of them."""
        torch.cuda.synchronize()
        began = time.time()
        for _ in range(steps):
            self.advance()
        torch.cuda.synchronize()
        return (time.time() - began) / steps * 1000

    def generate(self, ids: Tensor, start: Tensor, stop_at: float = 0.9, look: int = 12) -> Tensor:
        """Sampled ids (batch, new) on the CPU; what follows EOS is EOS, an unfinished row has none. Stops when
        `stop_at` of the rows are done, looked at every `look` steps."""
        self.prefill(ids, start)
        for made in range(1, self.new):
            if made % look == 0 and self.done.float().mean().item() >= stop_at:
                # an unfinished row must not look finished: mark the columns never written
                self.out[:, made:].masked_fill_(~self.done[:, None], -1)
                break
            self.advance()
        return self.out.to(torch.int32).cpu()
