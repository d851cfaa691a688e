"""PPO's episodes a second beside TRL 1.12's PPOTrainer (the last that TRL shipped) and TRL 1.16's RLOO.

    python benchmarks/ppo_speed.py --model SMOLLM2_DIR --data DATA_DIR --trl112 WHEEL --work DIR

DATA_DIR holds judge/alpaca_eval_gpt4_pairs.jsonl.gz (not part of this project), WHEEL is trl-1.12.0's. Every
batch is the same 512 prompts, 4 epochs of one optimiser step each, up to 128 new tokens; policy, critic,
reward and reference have one size and bfloat16 weights, the reward a random head, the same for every side.
The peer's chunk (rows generated at once) and micro-batch are searched for first, ours are run with every
--micros; nobody recomputes activations. The first batch (compiling, capturing) is told apart. `--only NAME …`
chooses, `--vllm` adds RLOO with vLLM in the same process, `--also NAME key=value …` a variant of ours.
On a CPU: --model tiny --batch 8 --new-tokens 8 --prompt-characters 60 --chunks 4 8 --peer-micros 4 --micros 4
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import peer
import side

LEARNING_RATE, BETA = 3e-6, 0.05  # TRL 1.12's
OURS = "alignkit"
TRL112, RLOO = "TRL 1.12 PPO", "TRL 1.16 RLOO"
Row = dict[str, Any]


def variants(arguments: argparse.Namespace) -> dict[str, Row]:
    """Name -> what a side is told to do."""
    found: dict[str, Row] = {}
    graph = {"trainer.rollout_engine": "graph"}
    for micro in arguments.micros:
        found[f"{OURS}, graph, micro-batch {micro}"] = {"side": "ours", "micro": micro, "set": graph}
    compiled = {**graph, "trainer.torch_compile": True}
    for micro in arguments.micros:
        found[f"{OURS}, compiled, micro-batch {micro}"] = {"side": "ours", "micro": micro, "set": compiled}
    most = max(arguments.micros)
    plain = {"trainer.rollout_engine": "transformers"}
    found[f"{OURS}, transformers, micro-batch {most}"] = {"side": "ours", "micro": most, "set": plain}
    whole = {**compiled, "model.dtype": "float32"}
    found[f"{OURS}, compiled, float32 weights"] = {"side": "ours", "micro": most, "set": whole}
    for name, *settings in arguments.also or []:
        extra = dict(setting.split("=", 1) for setting in settings)
        micro = int(extra.pop("micro", most))
        values = {key: json.loads(value) for key, value in extra.items()}
        found[f"{OURS}, {name}"] = {"side": "ours", "micro": micro, "set": {**compiled, **values}}
    found[TRL112] = {"side": "trl112"}
    for micro in arguments.rloo_micros:
        found[f"{RLOO}, micro-batch {micro}"] = {"side": "rloo", "micro": micro, "vllm": False}
    if arguments.vllm:
        micro = max(arguments.rloo_micros)
        found[f"{RLOO}, vLLM, micro-batch {micro}"] = {"side": "rloo", "micro": micro, "vllm": True}
    return found


# ---- the sides ----


class Stamped:
    """A scorer that notes when it is called: once a rollout, so that two calls are one whole cycle apart."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.times = scorer, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def members(self, *texts: Any) -> Any:
        self.times.append(time.perf_counter())
        return self.scorer.members(*texts)


def ours(arguments: argparse.Namespace, told: Row, work: Path) -> None:
    """The PPO stage."""
    from alignment.backend.config import load_config
    from alignment.backend.scoring import load_scorer
    from alignment.ppo import stage

    micro, batch = told["micro"], arguments.batch
    trainer = {
        "total_episodes": batch * arguments.batches,
        "per_device_train_batch_size": micro,
        "steps_per_generation": batch // micro,
        "gradient_accumulation_steps": batch // micro,
        "num_iterations": 4,
        "max_completion_length": arguments.new_tokens,
        "learning_rate": LEARNING_RATE,
        "critic_learning_rate": LEARNING_RATE,
        "critic_warmup_steps": 0,
        "lr_scheduler_type": "linear",
        "beta": BETA,
        "activation_checkpointing": False,
        "save_strategy": "no",
    }
    values = {f"trainer.{key}": value for key, value in trainer.items()} | {
        "model.path": arguments.model,
        "model.dtype": "bfloat16",
        "data.train": [str(arguments.work / "prompts.jsonl")],
        "data.max_truncated": 1.0,
        "max_prompt_length": None,
        "run.dir": str(work / "run"),
        "run.overwrite": True,
        "reward.path": str(arguments.work / "reward"),
        **told["set"],
    }
    scorer = Stamped(load_scorer(str(arguments.work / "reward")))
    settings = [*side.overrides(values), *arguments.set]
    stage.run(load_config(stage.Config, "smollm2-135m/ppo", settings), scorer=scorer)
    lines = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
    phases = ("rollout", "score", "measure", "update")
    cycles = [{name: line[f"time/{name}"] for name in phases} for line in lines if "time/rollout" in line]
    lengths = [line["completions/mean_length"] for line in lines if "completions/mean_length" in line]
    # from the second rollout's scoring on: its updates are no longer the first
    gaps = [later - earlier for earlier, later in zip(scorer.times[1:], scorer.times[2:], strict=False)]
    warm = cycles[1:]
    side.tell(
        {
            "settings": {"micro-batch": micro, **told["set"]},
            "first_batch": sum(cycles[0].values()),
            "batches": gaps,
            "mean_length": mean(lengths),
            "phases": {name: mean(cycle[name] for cycle in warm) for name in phases},
            **side.peak_memory(),
        }
    )


class Timer:
    """A callback of TRL's trainers: when each batch of prompts is done, `steps` optimiser steps each."""

    def __init__(self, steps: int = 1) -> None:
        from transformers import TrainerCallback

        self.times = [time.perf_counter()]

        class Stamp(TrainerCallback):
            def on_train_begin(_, *unused: Any, **also: Any) -> None:
                self.times = [clock()]

            def on_step_end(_, args: Any, state: Any, control: Any, **also: Any) -> None:
                if state.global_step % steps == 0:
                    self.times.append(clock())

        self.callback = Stamp()

    @property
    def batches(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def clock() -> float:
    """Now, with the GPU done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def trl112(arguments: argparse.Namespace, told: Row, work: Path) -> None:
    """TRL 1.12's PPOTrainer: its best chunk and micro-batch first, then the measured batches."""
    peer.use_trl112(arguments.trl112, work)
    import torch
    from trl.experimental.ppo import ppo_trainer as module

    prompts = json.loads((arguments.work / "prompts.json").read_text())
    generation: list[float] = []
    lengths: list[float] = []
    original = module.batch_generation

    def timed(model: Any, queries: Any, *rest: Any) -> Any:
        began = clock()
        found = original(model, queries, *rest)
        generation.append(clock() - began)
        ends = found[0][:, queries.shape[1] :] == model.generation_config.eos_token_id
        lengths.append(((ends.cumsum(1) - ends.int()) == 0).sum(1).float().mean().item())
        return found

    module.batch_generation = timed

    def train(chunk: int, micro: int, epochs: int, batches: int) -> tuple[list[float], list[float]]:
        """Seconds of each batch, and of its generation."""
        generation.clear()
        lengths.clear()
        options = {
            "output_dir": str(work / "trainer"),
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": arguments.batch // micro,
            "total_episodes": arguments.batch * batches,
            "num_ppo_epochs": epochs,
            "response_length": arguments.new_tokens,
            "local_rollout_forward_batch_size": chunk,
            "learning_rate": LEARNING_RATE,
            "kl_coef": BETA,
            "missing_eos_penalty": 1.0,
        }
        timer = Timer()
        reward = str(arguments.work / "reward")
        trainer = peer.ppo_trainer(arguments.model, reward, prompts, "bfloat16", options, [timer.callback])
        trainer.train()
        return timer.batches, list(generation)

    search: Row = {"chunks": {}, "micro-batches": {}}
    best = {"chunk": arguments.chunks[0], "micro": arguments.peer_micros[0]}
    if len(arguments.chunks) + len(arguments.peer_micros) > 2:
        tried(lambda: train(arguments.chunks[-1], best["micro"], 0, 1))  # libraries choose their kernels
    if len(arguments.chunks) > 1:  # a batch without updates
        for chunk in arguments.chunks:
            search["chunks"][chunk] = tried(lambda chunk=chunk: train(chunk, best["micro"], 0, 1)[0][-1])
            side.tell({"search": search})
        best["chunk"] = least(search["chunks"])
    if len(arguments.peer_micros) > 1:  # a batch with one epoch of updates
        for micro in arguments.peer_micros:
            search["micro-batches"][micro] = tried(
                lambda micro=micro: train(best["chunk"], micro, 1, 1)[0][-1]
            )
            side.tell({"search": search})
        best["micro"] = least(search["micro-batches"])
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    batches, generated = train(best["chunk"], best["micro"], 4, arguments.peer_batches)
    side.tell(
        {
            "settings": {"chunk": best["chunk"], "micro-batch": best["micro"]},
            "search": search,
            "first_batch": batches[0],
            "batches": batches[1:],
            "mean_length": mean(lengths),
            "phases": {"rollout": mean(generated[1:])},
            **side.peak_memory(),
        }
    )


def tried(run: Any) -> float | None:
    """The seconds that `run` gives; None where the memory does not do."""
    import torch

    try:
        return run()
    except torch.OutOfMemoryError:
        return None
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def least(seconds: dict[int, float | None]) -> int:
    """The setting that took least."""
    known = {setting: value for setting, value in seconds.items() if value is not None}
    return min(known, key=known.__getitem__)


def rloo(arguments: argparse.Namespace, told: Row, work: Path) -> None:
    """TRL 1.16's RLOOTrainer: no critic, two completions a prompt, four epochs."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import RLOOConfig, RLOOTrainer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    prompts = json.loads((arguments.work / "prompts.json").read_text())[: arguments.batch // 2]
    rows = [{"prompt": [{"role": "user", "content": prompt}]} for prompt in prompts]
    options = {"dtype": torch.bfloat16}
    policy = AutoModelForCausalLM.from_pretrained(arguments.model, **options)
    reward = AutoModelForSequenceClassification.from_pretrained(arguments.work / "reward", **options)
    cpu, micro = not torch.cuda.is_available(), told["micro"]
    vllm = {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": 0.3,
        "vllm_max_model_length": 1024,
    }
    config = RLOOConfig(
        output_dir=str(work / "trainer"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=arguments.batch // micro,
        num_generations=2,
        num_iterations=4,
        max_completion_length=arguments.new_tokens,
        max_steps=4 * arguments.batches,
        learning_rate=LEARNING_RATE,
        beta=BETA,
        report_to="none",
        gradient_checkpointing=False,
        bf16=not cpu,
        use_cpu=cpu,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **(vllm if told["vllm"] else {}),
    )
    timer = Timer(steps=4)
    trainer = RLOOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        callbacks=[timer.callback],
    )
    trainer.train()
    lengths = [
        line["completions/mean_length"]
        for line in trainer.state.log_history
        if "completions/mean_length" in line
    ]
    side.tell(
        {
            "settings": {"micro-batch": micro, "num_generations": 2, "vLLM": told["vllm"]},
            "first_batch": timer.batches[0],
            "batches": timer.batches[1:],
            "mean_length": mean(lengths),
            **side.peak_memory(),
        }
    )


# ---- the comparison ----


def peaks() -> tuple[float, float]:
    """What the GPU does at most, measured: FLOP/s of large bfloat16 products, bytes/s of large copies."""
    import torch

    one = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    other, out = one.clone(), one.clone()
    large, copy = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))

    def best(run: Any) -> float:
        times = []
        for _ in range(20):
            began = clock()
            run()
            times.append(clock() - began)
        return min(times)

    products = 2 * 8192**3 / best(lambda: torch.mm(one, other, out=out))
    copies = 2 * 2**30 / best(lambda: copy.copy_(large))
    return products, copies


def floor(arguments: argparse.Namespace, length: float, flops: float, copies: float) -> Row:
    """Seconds that a batch takes at the GPU's peak, by phase: bytes for sampling, products for the rest.

    Sampling reads the weights once a step, and the keys and values of all that is there so far; a forward
    pass is 2 FLOP a weight and token, an update 6; the LM head counts for completion tokens alone. Four
    networks in the forward passes, actor and critic in four epochs of updates. Attention's own products are
    left out.
    """
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    prompts = json.loads((arguments.work / "prompts.json").read_text())
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    hidden, inner, shared = config.hidden_size, config.intermediate_size, config.num_key_value_heads
    layer = 2 * hidden * heads * size + 2 * hidden * shared * size + 3 * hidden * inner
    body, head = config.num_hidden_layers * layer, config.vocab_size * hidden
    prompt = mean(len(side.rendered(tokenizer, text)) for text in prompts)
    rows = arguments.batch
    cache = 2 * 2 * config.num_hidden_layers * shared * size  # bytes a token
    read = arguments.new_tokens * 2 * (body + head) + rows * length * (prompt + length / 2) * cache
    tokens, made = rows * (prompt + length), rows * length
    forward = 2 * (4 * body * tokens + 2 * head * made)
    update = 4 * 6 * (2 * body * tokens + head * made)
    seconds = {"rollout": read / copies, "forward": forward / flops, "update": update / flops}
    return {
        "tflops": flops / 1e12,
        "terabytes": copies / 1e12,
        "prompt_tokens": prompt,
        "completion_tokens": length,
        "seconds": seconds,
    }


def prepare(arguments: argparse.Namespace) -> None:
    """Prompts, as records and as a list, and a reward model with a random head."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from alignment.data.files import write_records
    from alignment.data.records import Message, Record

    arguments.work.mkdir(parents=True, exist_ok=True)
    prompts = side.instructions(arguments.data, arguments.batch, arguments.prompt_characters)
    (arguments.work / "prompts.json").write_text(json.dumps(prompts))
    records = [
        Record(id=str(row), prompt=[Message(role="user", content=text)]) for row, text in enumerate(prompts)
    ]
    write_records(arguments.work / "prompts.jsonl", records, overwrite=True)
    torch.manual_seed(0)
    reward = AutoModelForSequenceClassification.from_pretrained(
        arguments.model, num_labels=1, dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    reward.config.pad_token_id = tokenizer.pad_token_id
    reward.save_pretrained(arguments.work / "reward")
    tokenizer.save_pretrained(arguments.work / "reward")


def summary(result: Row, batch: int) -> None:
    """Episodes a second of each side, and the ratios, in place."""
    for found in result["variants"].values():
        if found.get("batches"):
            found["episodes_per_second"] = batch / mean(found["batches"])
    best = {
        name: max(
            (
                found["episodes_per_second"]
                for told, found in result["variants"].items()
                if told.startswith(name) and "episodes_per_second" in found
            ),
            default=None,
        )
        for name in (OURS, TRL112, RLOO)
    }
    result["best"] = best
    result["times"] = {name: best[OURS] / best[name] for name in (TRL112, RLOO) if best[OURS] and best[name]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--trl112", type=Path, help="the wheel of trl 1.12.0, or a folder it is unpacked in")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "ppo_speed.json")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--prompt-characters", type=int, default=600)
    parser.add_argument("--batches", type=int, default=5, help="of ours and RLOO; 3 at least")
    parser.add_argument("--peer-batches", type=int, default=2, help="of TRL 1.12; the first is told apart")
    parser.add_argument("--micros", type=int, nargs="+", default=[128])
    parser.add_argument("--peer-micros", type=int, nargs="+", default=[64, 32, 128])
    parser.add_argument("--rloo-micros", type=int, nargs="*", default=[64])
    parser.add_argument("--chunks", type=int, nargs="+", default=[512, 256, 128])
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--also", nargs="+", action="append", metavar="NAME key=value")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="for every variant of ours")
    parser.add_argument("--only", nargs="*", help="variants whose names begin so")
    parser.add_argument("--seconds", type=float, default=300, help="that one side may take")
    parser.add_argument("--commit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    plan = variants(arguments)
    if arguments.one:
        told, work = plan[arguments.one], arguments.work / arguments.one.replace(" ", "-").replace(",", "")
        work.mkdir(parents=True, exist_ok=True)
        {"ours": ours, "trl112": trl112, "rloo": rloo}[told["side"]](arguments, told, work)
        return
    if arguments.batches < 3 or arguments.peer_batches < 2:
        parser.error("--batches is 3 at least, --peer-batches 2: the first is not measured")
    prepare(arguments)
    import torch

    most = (5e10, 1e10)  # about a CPU's, to try the script
    if torch.cuda.is_available():
        most = peaks()
        torch.cuda.empty_cache()
    result: Row = {
        "model": Path(arguments.model).name,
        "batch": arguments.batch,
        "new_tokens": arguments.new_tokens,
        **side.origin(arguments.commit, ("torch", "transformers", "trl", "accelerate")),
        "variants": {},
    }
    for name in plan:
        if arguments.only and not any(name.startswith(begin) for begin in arguments.only):
            continue
        if name == TRL112 and arguments.trl112 is None:
            continue
        found = side.run(__file__, name, arguments.work, [*sys.argv[1:], "--one", name], arguments.seconds)
        result["variants"][name] = found
        summary(result, arguments.batch)
        if found.get("phases") and name.startswith(OURS):
            found["floor"] = floor(arguments, found["mean_length"], *most)
        side.save(arguments.out, result)
        rate = found.get("episodes_per_second")
        shown = f"{rate:7.1f} episodes/s" if rate else f"failed: {found.get('error', '')[-300:]}"
        phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in found.get("phases", {}).items())
        print(f"{name:45} {shown}  peak {found.get('peak_gib')} GiB  {phases}", flush=True)
    print(json.dumps({key: result[key] for key in ("best", "times")}), flush=True)


if __name__ == "__main__":
    main()
