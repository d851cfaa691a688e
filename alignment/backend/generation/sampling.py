"""Completions for prompts, in batches of like length, by `model.generate`, the graph engine or vLLM."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignment.backend.chat import Messages, render_prompt, say_once, stop_ids
from alignment.backend.heads import unwrap
from alignment.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from alignment.backend.generation.settings import GenerationSection


# Tokens of a batch where the config leaves it open. A captured step takes hardly longer for many rows than
# for few, and another graph is captured for each size of batch: small batches would waste it.
BUDGETS = {"transformers": 16_384, "graph": 131_072, "vllm": sys.maxsize}


@dataclass(frozen=True)
class Generated:
    """One completion: its text without special tokens, its ids (a closing EOS included), how it ended."""

    text: str
    token_ids: list[int]
    finished: bool  # True: ended with an EOS; False: cut off at max_new_tokens


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    settings: GenerationSection,
    n: int = 1,
    progress: Callable[[int], Any] | None = None,
    tools: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
) -> list[list[Generated]]:
    """`n` completions of each prompt, in the order given.

    The same model, prompts, settings and n give the same completions. The model's mode and the process's
    random state are as before afterwards. `progress` is called with the number of completions of each batch
    that is done; `tools` holds the tools offered with each prompt, `names` what each is called in errors.
    UserError when a prompt leaves no room for max_new_tokens.
    """
    import torch

    offered = tools or [None] * len(prompts)
    ids = [render_prompt(tokenizer, prompt, given) for prompt, given in zip(prompts, offered, strict=True)]
    inner = unwrap(model)
    _check_room(ids, names or [str(k) for k in range(1, len(ids) + 1)], inner, settings)
    stops = stop_ids(tokenizer, inner.generation_config)
    jobs = sorted((row for row in range(len(ids)) for _ in range(n)), key=lambda row: len(ids[row]))
    results: list[list[Generated]] = [[] for _ in ids]
    devices = [inner.device] if inner.device.type == "cuda" else []
    engine, decode = _engine(model, tokenizer, settings, stops)
    budget = settings.token_budget or BUDGETS[engine]
    was_training = inner.training
    inner.eval()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(settings.seed)
        for batch in _batches(jobs, ids, settings.max_new_tokens, budget):
            rows = decode([ids[row] for row in batch])
            for row, tokens in zip(batch, rows, strict=True):
                results[row].append(_finish(tokenizer, tokens, stops))
            if progress is not None:
                progress(len(batch))
    inner.train(was_training)
    return results


def _engine(
    model: Any, tokenizer: PreTrainedTokenizerBase, settings: GenerationSection, stops: list[int]
) -> tuple[str, Callable[[Sequence[Sequence[int]]], list[list[int]]]]:
    """What makes new token ids for rows of prompt ids: the engine asked for, or transformers and why."""
    inner, reason = unwrap(model), None
    if settings.engine == "graph":
        from alignment.backend.generation import graph

        reason = graph.why_not(inner, settings.temperature, settings.top_p, settings.top_k)
        if reason is None:
            engine, pad_id = graph.GraphEngine(inner), tokenizer.pad_token_id
            wanted = (settings.max_new_tokens, stops, pad_id, settings.temperature)
            return "graph", lambda rows: [got.token_ids for got in engine.decode(rows, *wanted)]
    if settings.engine == "vllm":
        from alignment.backend.generation import vllm_engine

        reason = vllm_engine.why_not(model)
        if reason is None:
            return "vllm", vllm_engine.vllm_decoder(model, settings, stops)
    if reason is not None:
        say_once(f"generation.engine {settings.engine} is not used: {reason}")
    return "transformers", lambda rows: _generate_batch(inner, tokenizer, rows, settings, stops)


def _batches(
    jobs: Sequence[int], ids: Sequence[Sequence[int]], new_tokens: int, budget: int
) -> list[list[int]]:
    """Row numbers (sorted by prompt length) in batches whose padded prompt and completion fit the budget."""
    batches: list[list[int]] = []
    for row in reversed(jobs):  # longest first: a batch that does not fit in memory fails at once
        width = len(ids[batches[-1][0]]) + new_tokens if batches else 0
        if batches and (len(batches[-1]) + 1) * width <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def _generate_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    settings: GenerationSection,
    stops: list[int],
) -> list[list[int]]:
    """New token ids of each row, padding and all, from one call of `model.generate`."""
    import torch
    from transformers import GenerationConfig

    width = max(len(row) for row in rows)
    pad_id = tokenizer.pad_token_id
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
    sampling: dict[str, Any] = {"do_sample": False}
    if settings.temperature > 0:
        sampling = {"do_sample": True, "temperature": settings.temperature}
        sampling |= {"top_p": settings.top_p, "top_k": settings.top_k}
    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens, eos_token_id=stops, pad_token_id=pad_id, **sampling
    )
    # transformers fills what we leave out from the model's own generation_config.json, warpers included
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        with torch.no_grad():
            output = model.generate(ids, attention_mask=mask, generation_config=config)
    finally:
        model.generation_config = own
    return output[:, width:].tolist()


def _finish(tokenizer: PreTrainedTokenizerBase, tokens: list[int], stops: Sequence[int]) -> Generated:
    """Cut generated ids after their first stop token."""
    end = next((i for i, token in enumerate(tokens) if token in stops), None)
    kept = tokens if end is None else tokens[: end + 1]
    text: Any = tokenizer.decode(kept if end is None else kept[:-1], skip_special_tokens=True)
    return Generated(text=text, token_ids=kept, finished=end is not None)


def _check_room(
    ids: Sequence[Sequence[int]], names: Sequence[str], model: Any, settings: GenerationSection
) -> None:
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if room is None:
        return
    long = [k for k, row in enumerate(ids) if len(row) + settings.max_new_tokens > room]
    if long:
        most = max(len(row) for row in ids)
        fits = f"; all fit with {room - most} or fewer" if most < room else ""
        raise UserError(
            f"prompt {names[long[0]]} has {len(ids[long[0]])} tokens and generation.max_new_tokens is "
            f"{settings.max_new_tokens}, but the model holds {room} in all (so for {len(long)} of {len(ids)} "
            f"prompts here): lower max_new_tokens{fits}, or take the long prompts out of the file"
        )
