"""The graph engine: one decode step captured as a CUDA graph over a static cache, sampling on the GPU.

transformers launches hundreds of small kernels for each new token; a captured step is one launch. Prompts are
read end to end, without padding, and each row of the cache holds as many tokens as it has: attention reads no
others. Rows that have ended are retired: once enough have, the rest goes on in a smaller batch. On a CPU the
same step runs uncaptured, which is how it is tested.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignment.backend.chat import say_once
from alignment.backend.packed import NO_MASK, arguments, compile_layers, why_not_packed

CHECK = 16  # steps between looks at which rows have ended; a look waits for the GPU
LENGTH = 64  # caches hold a multiple of so many tokens, and one that is up to SPARE times as long will do
SPARE = 1.5
LEAST = 16  # rows below which a batch is not made smaller any more
PREFILL = 65_536  # tokens of prompts read at a time


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
    return why_not_packed(model)


class GraphEngine:
    """Decodes with one model, whose weights may change in place between batches.

    dtype: decode with a copy in this dtype, renewed for each batch, as where float32 weights are trained with
    autocast, which would cast them anew for every token. compiled: let torch.compile fuse what is in a layer
    (about a minute, once; the model's own forward is compiled with it unless there is a copy).
    """

    def __init__(self, model: Any, dtype: torch.dtype | None = None, compiled: bool = False) -> None:
        self.source = model  # not compiled yet
        self.model = model if dtype is None else _cast_copy(model, dtype)
        # As they are now: more may be hung on the model later.
        self.weights = list(zip(self.model.parameters(), model.parameters(), strict=True))
        self.batch: _Batch | None = None
        self.layers = _attention_layers(self.model)
        if compiled:
            compile_layers(self.model)

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
        was sampled from (at temperature 0 of the model's own).
        """
        if self.model is not self.source:
            for mine, theirs in self.weights:
                mine.copy_(theirs)
        count, needed = len(rows), max(len(row) for row in rows) + new_tokens
        size = _bucket(count)
        batch = self._batch(size, needed, tuple(stops), pad_id, temperature)
        batch.prefill([*rows, *([rows[-1]] * (size - count))])
        batch.done[count:size] = True
        tokens = torch.full((count, new_tokens), pad_id, device=self.model.device)
        logps = torch.zeros((count, new_tokens), device=self.model.device)
        place = torch.arange(count, device=self.model.device)  # of the batch's first rows, in the answer
        tokens[:, 0], logps[:, 0] = batch.token[:count], batch.logp[:count]
        for step in range(1, new_tokens):
            if step % CHECK == 0:
                live = (~batch.done[: len(place)]).nonzero().squeeze(1)
                if not len(live):
                    break
                if _bucket(len(live)) < size:
                    size, place = _bucket(len(live)), place[live]
                    batch.keep(live, size)
            batch.step(size)
            n = len(place)
            tokens[place, step], logps[place, step] = batch.token[:n], batch.logp[:n]
        batch.detach()
        return [_cut(ids, lps, stops) for ids, lps in zip(tokens.tolist(), logps.tolist(), strict=True)]

    def _batch(self, rows: int, needed: int, *how: Any) -> _Batch:
        """One that holds so many rows of so many tokens; a new one takes the place of the one before."""
        have = self.batch
        most = max(SPARE * needed, needed + LENGTH)
        if have is not None and have.how == how and rows <= have.rows and needed <= have.length <= most:
            return have
        if have is not None:
            have.detach()  # after an error it is still there
        self.batch = have = None  # its cache is freed first
        length = -(-needed // LENGTH) * LENGTH
        self.batch = _Batch(self.model, self.layers, rows, length, *how)
        return self.batch


class _Batch:
    """A cache for `rows` sequences of `length` tokens, the state of a step, and its graphs for fewer rows."""

    def __init__(
        self,
        model: Any,
        layers: Sequence[tuple[Any, Tensor, Tensor]],
        rows: int,
        length: int,
        stops: tuple[int, ...],
        pad_id: int,
        temperature: float,
    ) -> None:
        self.model, self.rows, self.length, self.pad_id = model, rows, length, pad_id
        self.temperature, self.how = temperature, (stops, pad_id, temperature)
        device = model.device
        self.pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.caches = [
            (
                module,
                key.new_zeros((rows, length, *key.shape[-2:])),
                value.new_zeros((rows, length, *value.shape[-2:])),
            )
            for module, key, value in layers
        ]
        self.stops = torch.tensor(stops, device=device)
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.logp = torch.zeros(rows, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.place = torch.zeros(rows, dtype=torch.long, device=device)  # of the newest token, in its row
        self.bounds = torch.arange(rows + 1, dtype=torch.int32, device=device)
        self.row = torch.arange(rows, device=device)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> None:
        """Read the prompts, and sample the first token of each."""
        device = self.model.device
        size = len(prompts)
        self._attach(size)
        logits = []
        for start, stop in _chunks([len(row) for row in prompts]):
            lengths = torch.tensor([len(row) for row in prompts[start:stop]])
            ids = torch.tensor([token for row in prompts[start:stop] for token in row])
            which = torch.repeat_interleave(torch.arange(start, stop), lengths).to(device)
            given = arguments(lengths, device)
            out = self.model(
                input_ids=ids.to(device)[None],
                logits_to_keep=given["cu_seq_lens_q"][1:].long() - 1,
                cache_rows=which,
                cache_places=given["position_ids"][0],
                **given,
            )
            logits.append(out.logits[0])
            self.place[start:stop] = lengths.to(device)
        self.done.zero_()
        self._sample(torch.cat(logits), size)

    def keep(self, live: Tensor, size: int) -> None:
        """Go on with the rows `live` alone, the first of `size` rows."""
        index = torch.cat([live, live[:1].expand(size - len(live))])
        for _, keys, values in self.caches:
            keys[:size], values[:size] = keys[index], values[index]
        for state in (self.token, self.logp, self.done, self.place):
            state[:size] = state[index]
        self.done[len(live) : size] = True

    def step(self, size: int) -> None:
        """Read the newest token of each of the first `size` rows, and sample the next."""
        if self.pool is None:
            self._step(size)
        elif size in self.graphs:
            self.graphs[size].replay()
        else:
            self._capture(size)

    def _attach(self, size: int) -> None:
        for module, keys, values in self.caches:
            module.cached_keys, module.cached_values = _first(keys, size), _first(values, size)

    def detach(self) -> None:
        """Let the model's layers forget the cache, which would live as long as they do."""
        for module, _, _ in self.caches:
            module.cached_keys = module.cached_values = None

    def _step(self, size: int) -> None:
        self._attach(size)
        place, done = _first(self.place, size), self.done[:size]
        bounds = _first(self.bounds, size + 1)
        logits = self.model(
            input_ids=self.token[None, :size],
            position_ids=place[None],
            attention_mask=torch.empty(NO_MASK, device=place.device),
            use_cache=False,
            cu_seq_lens_q=bounds,
            cu_seq_lens_k=bounds * self.length,
            max_length_q=1,
            cache_rows=_first(self.row, size),
            cache_places=place,
            cache_used=(place + 1).masked_fill(done, 1).int(),  # nothing is read for a row that has ended
        ).logits[0]
        place.add_(1)
        self._sample(logits, size)

    def _sample(self, logits: Tensor, size: int) -> None:
        """argmax(log p + Gumbel noise) is a sample of p: no sum, no sort, no wait for the GPU."""
        scores = logits.float()
        if self.temperature > 0:
            scores = scores / self.temperature
        logps = scores.log_softmax(-1)
        drawn = logps
        if self.temperature > 0:
            drawn = logps - torch.empty_like(logps).exponential_().log()
        token = drawn.argmax(-1)
        done = self.done[:size]
        self.logp[:size] = logps.gather(1, token[:, None]).squeeze(1)
        token = token.masked_fill(done, self.pad_id)
        self.token[:size] = token
        done.logical_or_(torch.isin(token, self.stops))

    def _capture(self, size: int) -> None:
        """Run the step in the open, then capture it. What the trial steps did is undone, samples included:
        a run that captures anew after a resume draws what the unbroken run drew."""
        state = [self.token, self.logp, self.done, self.place]
        kept = [tensor.clone() for tensor in state]
        dice = torch.cuda.get_rng_state(self.model.device)

        def restore() -> None:
            torch.cuda.set_rng_state(dice, self.model.device)
            for tensor, before in zip(state, kept, strict=True):
                tensor.copy_(before)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries choose their kernels
                self._step(size)
                restore()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool):
                self._step(size)
        except RuntimeError as error:  # a step that waits for the GPU, as where the data choose experts
            why = str(error).strip().splitlines()[0]
            say_once(f"{type(self.model).__name__} is decoded without a CUDA graph, which it fails: {why}")
            self.pool = None
            restore()
            self._step(size)
            return
        restore()
        self.graphs[size] = graph
        graph.replay()


def _cast_copy(model: Any, dtype: torch.dtype) -> Any:
    """A frozen copy with its weights in `dtype`. Buffers stay as they are: rotary frequencies are float32."""
    twin = copy.deepcopy(model).requires_grad_(False)
    vars(twin).pop("forward", None)  # TRL replaces it on the instance, by one that calls the original's
    for parameter in twin.parameters():
        parameter.data = parameter.data.to(dtype)
    return twin.eval()


@torch.no_grad()
def _attention_layers(model: Any) -> list[tuple[Any, Tensor, Tensor]]:
    """The attention modules of a model, each with a key and a value such as it caches."""
    found: list[tuple[Any, Tensor, Tensor]] = []
    ids = torch.zeros((1, 1), dtype=torch.long, device=model.device)
    model(input_ids=ids, cacheable=found, **arguments(torch.tensor([1]), model.device))
    return found


def _first(tensor: Tensor, size: int) -> Tensor:
    """The first `size` rows. A slice would tell a compiled layer of the whole, and be compiled for anew."""
    return tensor.new_empty(0).set_(tensor.untyped_storage(), 0, (size, *tensor.shape[1:]), tensor.stride())


def _chunks(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """From and to of runs of rows that have at most PREFILL tokens together, or of one row."""
    start = total = 0
    for row, length in enumerate(lengths):
        if row > start and total + length > PREFILL:
            yield start, row
            start = row
            total = 0
        total += length
    yield start, len(lengths)


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
