"""Sampling by vLLM: its offline `LLM` class on the model's folder, token ids in and token ids out.

vLLM loads weights of its own, beside the model that is in memory already, and batches by itself. It is no
dependency. Left out: adapters and quantised weights; training (there TRL's `use_vllm` does it).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from alignment.backend.heads import unwrap
from alignment.errors import UserError

if TYPE_CHECKING:
    from alignment.backend.generation.settings import GenerationSection

SHARE = 0.9  # of the memory that is free, for its weights and cache


def why_not(model: Any) -> str | None:
    """Why vLLM cannot sample from this model, as part of a sentence; None when it can."""
    inner = unwrap(model)
    if inner.device.type != "cuda":
        return f"the model is on {inner.device.type}, and vLLM is used on GPUs alone"
    if inner is not model:
        return "its adapter is not merged (`alignkit export` merges it)"
    return "its weights are quantised" if getattr(model, "is_quantized", False) else None


def vllm_decoder(
    model: Any, settings: GenerationSection, stops: Sequence[int]
) -> Callable[[Sequence[Sequence[int]]], list[list[int]]]:
    """What makes new token ids, a closing stop token included, for rows of prompt ids.

    Every row has a seed of its own, drawn from `settings.seed`: what is sampled for it does not depend on
    which rows it is batched with, nor on what was sampled before. Raises UserError where vLLM is missing.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UserError("generation.engine: vllm needs vLLM, which is not installed: pip install vllm")
    vllm: Any = importlib.import_module("vllm")
    llm = _llm(vllm, model)
    dice = np.random.default_rng(settings.seed)

    def decode(rows: Sequence[Sequence[int]]) -> list[list[int]]:
        wanted = [
            vllm.SamplingParams(
                temperature=settings.temperature,
                top_p=settings.top_p,
                top_k=settings.top_k,
                max_tokens=settings.max_new_tokens,
                stop_token_ids=list(stops),
                ignore_eos=True,  # `stops` are all there are, whatever generation_config.json says
                seed=int(seed),
                detokenize=False,
            )
            for seed in dice.integers(2**31, size=len(rows))
        ]
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        found = [made.outputs[0] for made in llm.generate(prompts, wanted, use_tqdm=False)]
        for completion in found:
            if completion.finish_reason not in ("stop", "length"):
                raise RuntimeError(f"vLLM ended a completion by {completion.finish_reason!r}")
        return [list(completion.token_ids) for completion in found]

    return decode


def _llm(vllm: Any, model: Any) -> Any:
    """vLLM's engine for a model, kept on it: starting one takes long. It goes when the model goes."""
    if not hasattr(model, "vllm_engine"):
        free, total = torch.cuda.mem_get_info(model.device)
        model.vllm_engine = vllm.LLM(
            model=model.name_or_path,
            dtype=str(model.dtype).removeprefix("torch."),
            gpu_memory_utilization=SHARE * free / total,
        )
    return model.vllm_engine
