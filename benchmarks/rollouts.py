"""Sampling 512 completions: our graph engine beside transformers' `generate` and vLLM, and whether it agrees.

    python benchmarks/rollouts.py --model SMOLLM2_DIR --data DATA_DIR --work DIR

DATA_DIR holds judge/alpaca_eval_gpt4_pairs.jsonl.gz (not part of this project). Up to 128 new tokens at
temperature 1 in bfloat16, all prompts at once, for the given model and for a random Llama of about 1B, whose
completions are all of 128 tokens (it hardly ever ends one). The first call is told apart: it compiles or
captures. vLLM runs where it is installed; `--static` adds transformers' compiled static cache.
Agreement, of the given model: greedy tokens in float32 and in bfloat16, where rows part the gap between the
two likeliest tokens, and log-probabilities of samples against a fresh forward pass.
On a CPU: --model tiny --rows 8 --new-tokens 8 --prompt-characters 60 --repeats 1 --large tiny
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any

import side
from ppo_speed import clock

ONE_B = {  # 1.07e9 weights with a vocabulary of 49,152
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}
TINY = {
    **ONE_B,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
}
ENGINES = ("transformers", "transformers, static cache", "graph", "graph, compiled", "vLLM")
AGREEMENT = "agreement"
Row = dict[str, Any]


class Sampler:
    """One engine on one model: `sample` gives token ids, stop token included, for rows of prompt ids."""

    def __init__(self, engine: str, folder: str, fixed: bool, new_tokens: int) -> None:
        """fixed: every completion has `new_tokens` tokens, whatever they are."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.new_tokens, self.pad_id = new_tokens, tokenizer.pad_token_id
        self.stops = [] if fixed else [tokenizer.eos_token_id]
        self.static = engine == "transformers, static cache"
        self.compiled = engine == "graph, compiled"
        kinds = {"graph": self._graph, "graph, compiled": self._graph, "vLLM": self._vllm}
        make = kinds.get(engine, self._transformers)
        self.sample = make(folder)

    def _transformers(self, folder: str) -> Any:
        model = loaded(folder, "bfloat16")
        more = {"cache_implementation": "static"} if self.static else {}
        return lambda rows: generated(model, rows, self.new_tokens, self.stops, self.pad_id, True, **more)

    def _graph(self, folder: str) -> Any:
        from alignment.backend.generation.graph import GraphEngine

        engine = GraphEngine(loaded(folder, "bfloat16"), compiled=self.compiled)
        stops = self.stops or [-1]  # an id that no token has
        return lambda rows: [
            found.token_ids for found in engine.decode(rows, self.new_tokens, stops, self.pad_id)
        ]

    def _vllm(self, folder: str) -> Any:
        from vllm import LLM, SamplingParams

        llm = LLM(
            model=folder,
            dtype="bfloat16",
            gpu_memory_utilization=0.5,
            max_model_len=1024,
            max_num_seqs=512,
            enable_prefix_caching=False,  # the prompts come again in every call
        )
        wanted = SamplingParams(temperature=1.0, max_tokens=self.new_tokens, ignore_eos=not self.stops)

        def sample(rows: list[list[int]]) -> list[list[int]]:
            prompts = [{"prompt_token_ids": row} for row in rows]
            return [
                list(found.outputs[0].token_ids) for found in llm.generate(prompts, wanted, use_tqdm=False)
            ]

        return sample


def loaded(folder: str, dtype: str) -> Any:
    """The language model in a folder, on the GPU where there is one."""
    import torch
    from transformers import AutoModelForCausalLM

    kind = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, attn_implementation="sdpa")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def generated(
    model: Any, rows: list[list[int]], new_tokens: int, stops: list[int], pad_id: int, draw: bool, **more: Any
) -> list[list[int]]:
    """transformers' `generate`, all rows at once, cut after the first stop token."""
    import torch
    from transformers import GenerationConfig

    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if draw else {}
    config = GenerationConfig(
        max_new_tokens=new_tokens, eos_token_id=stops or None, pad_token_id=pad_id, **sampling, **more
    )
    model.generation_config = GenerationConfig()  # the model's own would be mixed in
    with torch.no_grad():
        made = model.generate(ids, attention_mask=mask, generation_config=config)
    return [cut(row, stops) for row in made[:, width:].tolist()]


def cut(ids: list[int], stops: list[int]) -> list[int]:
    return ids[: next((place + 1 for place, token in enumerate(ids) if token in stops), len(ids))]


def speed(arguments: argparse.Namespace, engine: str, folder: str, fixed: bool) -> None:
    """Tokens a second of the first call and of those after it."""
    import torch

    rows = json.loads((arguments.work / "rows.json").read_text())
    began = clock()
    sampler = Sampler(engine, folder, fixed, arguments.new_tokens)
    found: Row = {"load": clock() - began, "seconds": [], "tokens": []}
    for call in range(arguments.repeats + 1):
        torch.manual_seed(call)
        began = clock()
        made = sampler.sample(rows)
        found["seconds"].append(clock() - began)
        found["tokens"].append(sum(map(len, made)))
        if call:
            found["tokens_per_second"] = sum(found["tokens"][1:]) / sum(found["seconds"][1:])
        side.tell({**found, **side.peak_memory()})


# ---- agreement ----


def agreement(arguments: argparse.Namespace, folder: str) -> None:
    """Greedy tokens of both engines, and log-probabilities of samples against a fresh forward pass."""
    import torch
    from transformers import AutoTokenizer

    from alignment.backend.generation.graph import GraphEngine

    rows = json.loads((arguments.work / "rows.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stops, pad_id = [tokenizer.eos_token_id], tokenizer.pad_token_id
    torch.set_float32_matmul_precision("highest")
    found: Row = {}
    ways = [("float32", False), ("bfloat16", False), *[("bfloat16", True)] * torch.cuda.is_available()]
    for dtype, compiled in ways:
        model = loaded(folder, dtype)  # another than the engine's, whose forward may be compiled
        engine, way = GraphEngine(loaded(folder, dtype), compiled=compiled), dtype + ", compiled" * compiled
        theirs = generated(model, rows, arguments.new_tokens, stops, pad_id, False)
        mine = [
            made.token_ids for made in engine.decode(rows, arguments.new_tokens, stops, pad_id, temperature=0)
        ]
        found[way] = {"rows": len(rows), "same": sum(a == b for a, b in zip(mine, theirs, strict=True))}
        found[way] |= partings(model, rows, mine, theirs)
        side.tell(found)
        torch.manual_seed(0)
        drawn = engine.decode(rows, arguments.new_tokens, stops, pad_id)
        fresh = fresh_logps(model, rows, [made.token_ids for made in drawn], pad_id)
        apart = [
            abs(x - y)
            for made, row in zip(drawn, fresh, strict=True)
            for x, y in zip(made.logps, row, strict=True)
        ]
        found[way]["logps"] = {"tokens": len(apart), "mean": mean(apart), "most": max(apart)}
        side.tell(found)
        del model, engine


def partings(model: Any, rows: list[list[int]], mine: list[list[int]], theirs: list[list[int]]) -> Row:
    """The gap of the two likeliest tokens' logits where greedy rows part, and midway in rows that agree.

    Of at most 100 rows each.
    """
    import torch

    gaps, usual = [], []
    for prompt, one, other in zip(rows, mine, theirs, strict=True):
        if len(usual if one == other else gaps) == 100:
            continue
        if one == other:
            place = len(one) // 2
        else:
            pairs = enumerate(zip(one, other, strict=False))
            place = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
        ids = torch.tensor([[*prompt, *one[:place]]], device=model.device)
        with torch.no_grad():
            top = model(input_ids=ids, logits_to_keep=1).logits[0, -1].float().topk(2).values
        (usual if one == other else gaps).append((top[0] - top[1]).item())
    shown = {"gap_median": median(gaps), "gap_most": max(gaps)} if gaps else {}
    return shown | ({"gap_elsewhere_median": median(usual)} if usual else {})


def fresh_logps(
    model: Any, rows: list[list[int]], made: list[list[int]], pad_id: int, at_once: int = 16
) -> list[list[float]]:
    """Log-probabilities of the tokens made, from one forward pass over prompt and completion."""
    import torch

    from alignment.backend.batching import pad_right

    found = []
    for first in range(0, len(rows), at_once):
        prompts, tails = rows[first : first + at_once], made[first : first + at_once]
        whole = [[*prompt, *tail] for prompt, tail in zip(prompts, tails, strict=True)]
        ids, mask = pad_right(whole, pad_id, model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits
        for row, (prompt, tail) in enumerate(zip(prompts, tails, strict=True)):
            logps = logits[row, len(prompt) - 1 : len(prompt) + len(tail) - 1].float().log_softmax(-1)
            picked = logps.gather(1, torch.tensor(tail, device=logps.device)[:, None])
            found.append(picked.squeeze(1).tolist())
    return found


# ---- the comparison ----


def prepare(arguments: argparse.Namespace) -> dict[str, tuple[str, bool]]:
    """The prompts' ids, and by name each model's folder and whether its completions have a fixed length."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    prompts = side.instructions(arguments.data, arguments.rows, arguments.prompt_characters)
    (arguments.work / "rows.json").write_text(
        json.dumps([side.rendered(tokenizer, text) for text in prompts])
    )
    models = {Path(arguments.model).name: (arguments.model, False)}
    if arguments.large != "none":
        shape = ONE_B if arguments.large == "1B" else TINY
        folder = arguments.work / f"random-{arguments.large}"
        if not (folder / "config.json").exists():
            config = LlamaConfig(
                vocab_size=len(tokenizer),
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                **shape,
            )
            torch.manual_seed(0)
            with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
                model = LlamaForCausalLM(config).to(torch.bfloat16)
            tokenizer.save_pretrained(folder)
            model.save_pretrained(folder)
            del model
            torch.cuda.empty_cache()
        models[f"random {arguments.large}"] = (str(folder), True)
    return models


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "rollouts.json")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--prompt-characters", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3, help="calls after the first")
    parser.add_argument("--large", choices=("1B", "tiny", "none"), default="1B")
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, help="and no others; without agreement")
    parser.add_argument("--seconds", type=float, default=240, help="that one side may take")
    parser.add_argument("--commit")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # engine, folder, fixed
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    if arguments.one:
        engine, folder, fixed = arguments.one
        if engine == AGREEMENT:
            agreement(arguments, folder)
        else:
            speed(arguments, engine, folder, fixed == "True")
        return
    import torch

    models = prepare(arguments)
    engines = [engine for engine in ENGINES if "static" not in engine or arguments.static]
    if not torch.cuda.is_available():
        engines.remove("graph, compiled")
    if importlib.util.find_spec("vllm") is None:
        engines.remove("vLLM")
    engines = arguments.engines or engines
    plan = [(name, engine, *told) for name, told in models.items() for engine in engines]
    if not arguments.engines:
        first = next(iter(models))
        plan.append((first, AGREEMENT, *models[first]))
    result: Row = {
        "rows": arguments.rows,
        "new_tokens": arguments.new_tokens,
        **side.origin(arguments.commit, ("torch", "transformers", "trl")),
        "engines": {},
    }
    for name, engine, folder, fixed in plan:
        given = [*sys.argv[1:], "--one", engine, folder, str(fixed)]
        found = side.run(__file__, f"{name}-{engine}", arguments.work, given, arguments.seconds)
        if engine == AGREEMENT:
            result["agreement"] = {"model": name, **found}
            print(json.dumps(result["agreement"]), flush=True)
        else:
            result["engines"].setdefault(name, {})[engine] = found
            result["times_transformers"] = ratios(result["engines"])
            rate = found.get("tokens_per_second")
            shown = f"{rate:9,.0f} tokens/s" if rate else f"failed: {found.get('error', '')[-300:]}"
            seconds = ", ".join(f"{value:.2f}" for value in found.get("seconds", []))
            print(f"{name:28} {engine:28} {shown}  s: {seconds}  peak {found.get('peak_gib')}", flush=True)
        side.save(arguments.out, result)
    print(json.dumps(result["times_transformers"]), flush=True)


def ratios(engines: Row) -> Row:
    """By model, each engine's tokens a second over those of transformers' dynamic cache."""
    found: Row = {}
    for name, sides in engines.items():
        base = sides.get("transformers", {}).get("tokens_per_second")
        rates = {engine: one.get("tokens_per_second") for engine, one in sides.items()}
        found[name] = {engine: rate / base for engine, rate in rates.items() if rate and base}
    return found


if __name__ == "__main__":
    main()
