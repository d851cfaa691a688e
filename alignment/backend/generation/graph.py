"""The graph engine: one decode step captured as a CUDA graph over a static cache, sampling on the GPU.

transformers launches hundreds of small kernels for each new token; a captured step is one launch. Rows are
padded on the left to one width, so that all write the cache at the same place. Rows that have ended are
retired: once half of a batch has, the rest goes on in a batch of half the size. On a CPU the same step runs
uncaptured, which is how it is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache
from transformers.cache_utils import StaticLayer

CHECK = 16  # steps between looks at which rows have ended; a look waits for the GPU
LENGTH = 64  # caches hold a multiple of so many tokens, and one that is up to SPARE times as long will do
SPARE = 1.5
LEAST = 16  # rows below which a batch is not halved any more


class CannotCaptureError(RuntimeError):
    """The engine cannot decode this model; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """What was sampled for one prompt: token ids, a closing stop token included, and their log-probs."""

    token_ids: list[int]
    logps: list[float]


def why_not(model: Any, temperature: float, top_p: float, top_k: int) -> str | None:
    """Why this engine cannot sample from this model in this way, as part of a sentence; None when it can."""
    if model.device.type != "cuda":
        return f"the model is on {model.device.type}, and graphs are CUDA's"
    if temperature > 0 and (top_p < 1 or top_k > 0):
        return "top_p and top_k are left to transformers"
    return unsuitable(model)


def unsuitable(model: Any) -> str | None:
    """Why the model's cache or attention does not fit, whatever the device; None when they do."""
    attention = model.config._attn_implementation
    if attention not in ("sdpa", "eager"):
        return f"attention {attention!r} takes no mask of its own; use sdpa"
    try:
        layers = StaticCache(config=model.config, max_cache_len=8).layers
    except (ValueError, NotImplementedError, AttributeError) as error:
        return f"{type(model).__name__} has no static cache ({error})"
    if any(type(layer) is not StaticLayer for layer in layers):
        return f"{type(model).__name__} has sliding or recurrent layers"
    return None


class GraphEngine:
    """Decoders of one model, kept from batch to batch. Its weights may change in place between them."""

    def __init__(self, model: Any) -> None:
        self.model = model
        # Graphs share their memory: nothing in it is read after the step.
        self.pool = torch.cuda.graph_pool_handle() if model.device.type == "cuda" else None
        self.decoders: dict[tuple[Any, ...], _Decoder] = {}

    @torch.no_grad()
    def decode(
        self,
        rows: Sequence[Sequence[int]],
        new_tokens: int,
        stops: Sequence[int],
        pad_id: int,
        temperature: float = 1.0,
    ) -> list[Decoded]:
        """Up to `new_tokens` tokens for each row of prompt ids, in order; temperature 0 takes the likeliest.

        Samples with torch's random state of the device. Log-probabilities are those of the distribution that
        was sampled from (at temperature 0 of the model's own). Raises CannotCaptureError.
        """
        width, count = max(len(row) for row in rows), len(rows)
        padded = [*rows, *([rows[-1]] * (_bucket(count) - count))]
        length = self._length(width + new_tokens)
        decoder = self._decoder(len(padded), length, tuple(stops), pad_id, temperature)
        decoder.prefill(padded, width)
        decoder.done[count:] = True
        tokens = torch.full((count, new_tokens), pad_id, device=self.model.device)
        logps = torch.zeros((count, new_tokens), device=self.model.device)
        place = torch.arange(count, device=self.model.device)  # of the decoder's first rows, in the answer
        tokens[:, 0], logps[:, 0] = decoder.token[:count, 0], decoder.logp[:count]
        for step in range(1, new_tokens):
            if step % CHECK == 0:
                live = (~decoder.done[: len(place)]).nonzero().squeeze(1)
                if not len(live):
                    break
                if len(live) <= decoder.rows // 2 and decoder.rows > LEAST:
                    smaller = self._decoder(_bucket(len(live)), *decoder.key[1:])
                    smaller.take_over(decoder, live)
                    decoder, place = smaller, place[live]
            decoder.step()
            n = len(place)
            tokens[place, step], logps[place, step] = decoder.token[:n, 0], decoder.logp[:n]
        return [_cut(ids, lps, stops) for ids, lps in zip(tokens.tolist(), logps.tolist(), strict=True)]

    def _length(self, needed: int) -> int:
        """Of the caches to use. A length that none has drops those there are: one set at a time is held."""
        for _, length, *_ in self.decoders:
            if needed <= length <= max(SPARE * needed, needed + LENGTH):
                return length
        self.decoders.clear()
        return -(-needed // LENGTH) * LENGTH

    def _decoder(self, *key: Any) -> _Decoder:
        if key not in self.decoders:
            self.decoders[key] = _Decoder(self.model, self.pool, *key)
        return self.decoders[key]


class _Decoder:
    """A static cache for `rows` sequences of `length` tokens, the state of a step, and the step's graph."""

    def __init__(
        self,
        model: Any,
        pool: Any,
        rows: int,
        length: int,
        stops: tuple[int, ...],
        pad_id: int,
        temperature: float,
    ) -> None:
        self.pool = pool
        self.key = (rows, length, stops, pad_id, temperature)
        self.model, self.rows, self.length, self.pad_id = model, rows, length, pad_id
        self.temperature = temperature
        device = model.device
        self.cache = StaticCache(config=model.config, max_cache_len=length)
        self.layers: list[Any] = self.cache.layers
        self.stops = torch.tensor(stops, device=device)
        self.token = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self.logp = torch.zeros(rows, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.position = torch.zeros((rows, 1), dtype=torch.long, device=device)
        self.slot = torch.zeros(1, dtype=torch.long, device=device)  # where in the cache the token goes
        self.mask = torch.zeros((rows, 1, 1, length), dtype=torch.bool, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def prefill(self, prompts: Sequence[Sequence[int]], width: int) -> None:
        """Read the prompts, and sample the first token of each."""
        device = self.model.device
        ids = torch.tensor([[self.pad_id] * (width - len(row)) + list(row) for row in prompts], device=device)
        seen = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        for layer in self.layers:
            layer.cumulative_length.zero_()
        logits = self.model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=self.cache,
            logits_to_keep=1,
            use_cache=True,
        ).logits[:, -1]
        self.mask.zero_()
        self.mask[:, 0, 0, :width] = seen.bool()
        self.position.copy_(positions[:, -1:])
        self.slot.fill_(width - 1)
        self.done.zero_()
        self._sample(logits)

    def take_over(self, other: _Decoder, live: Tensor) -> None:
        """Go on with the rows `live` of another decoder of the same length."""
        fill = live.new_zeros(self.rows - len(live)) + live[0]
        index = torch.cat([live, fill])
        if not self.layers[0].is_initialized:
            for mine, theirs in zip(self.layers, other.layers, strict=True):
                mine.lazy_initialization(theirs.keys[: self.rows], theirs.values[: self.rows])
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            torch.index_select(theirs.keys, 0, index, out=mine.keys)
            torch.index_select(theirs.values, 0, index, out=mine.values)
            mine.cumulative_length.copy_(theirs.cumulative_length)
        for name in ("token", "logp", "done", "position", "mask"):
            getattr(self, name).copy_(getattr(other, name)[index])
        self.slot.copy_(other.slot)
        self.done[len(live) :] = True

    def step(self) -> None:
        """Read the newest token of each row, and sample the next."""
        if self.model.device.type != "cuda":
            self._step()
        elif self.graph is not None:
            self.graph.replay()
        else:
            self._capture()

    def _step(self) -> None:
        self.position.add_(1)
        self.slot.add_(1)
        self.mask.index_fill_(3, self.slot, True)
        logits = self.model(
            input_ids=self.token,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            logits_to_keep=1,
            use_cache=True,
        ).logits[:, -1]
        self._sample(logits)

    def _sample(self, logits: Tensor) -> None:
        """argmax(log p + Gumbel noise) is a sample of p: no sum, no sort, no wait for the GPU."""
        scores = logits.float()
        if self.temperature > 0:
            scores = scores / self.temperature
        logps = scores.log_softmax(-1)
        drawn = logps
        if self.temperature > 0:
            drawn = logps - torch.empty_like(logps).exponential_().log()
        token = drawn.argmax(-1, keepdim=True)
        self.logp.copy_(logps.gather(1, token).squeeze(1))
        token.masked_fill_(self.done[:, None], self.pad_id)
        self.token.copy_(token)
        self.done.logical_or_(torch.isin(token, self.stops).squeeze(1))

    def _capture(self) -> None:
        """Run the step in the open, then capture it. What the trial steps did is undone, samples included:
        a run that captures anew after a resume draws what the unbroken run drew."""
        state = [self.token, self.logp, self.done, self.position, self.slot, self.mask]
        counts = [layer.cumulative_length for layer in self.layers]
        kept = [tensor.clone() for tensor in (*state, *counts)]
        dice = torch.cuda.get_rng_state(self.model.device)

        def restore() -> None:
            torch.cuda.set_rng_state(dice, self.model.device)
            for tensor, before in zip((*state, *counts), kept, strict=True):
                tensor.copy_(before)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries choose their kernels
                self._step()
                restore()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                self._step()
        except RuntimeError as error:
            raise CannotCaptureError(
                f"{type(self.model).__name__} cannot be captured as a CUDA graph: {error}"
            ) from error
        restore()
        self.graph = graph
        graph.replay()


def _bucket(rows: int) -> int:
    """The least multiple of LEAST, or power of two times it, that holds so many rows."""
    size = LEAST
    while size < rows:
        size *= 2
    # 3/4 of a power of two as well: 384 of 512 rows cost three quarters
    return size * 3 // 4 if size > LEAST and rows <= size * 3 // 4 else size


def _cut(ids: list[int], logps: list[float], stops: Sequence[int]) -> Decoded:
    end = next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids))
    return Decoded(ids[:end], logps[:end])
