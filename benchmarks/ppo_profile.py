"""Where a PPO update's time goes: how long the GPU is busy, and with what.

    python benchmarks/ppo_profile.py --model SMOLLM2_DIR --data DATA_DIR --work DIR [--micro N] [key=value …]

Runs benchmarks/ppo_speed.py's setting of ours (512 prompts, graph engine, compiled layers) for three batches,
and watches the third: the passes that measure the rollout, and the micro-batches of one optimiser step. A GPU
that is busy for much less than the time that passes waits for the CPU to launch: larger micro-batches help
then, fewer or faster kernels where it is busy. `--whole` tries what launches least: the backbones compiled
as a whole, which takes minutes. key=value are settings of the stage. On a CPU: --model tiny --batch 8
--new-tokens 8 --prompt-characters 60 --micro 4
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import ppo_speed
import side


def watched(name: str, call: Any) -> Any:
    """Its result; prints how long it took, how long of it the GPU was busy, and its largest kernels."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    gpu = torch.cuda.is_available()
    ppo_speed.clock()
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        result = call()
        ppo_speed.clock()
        seconds = time.perf_counter() - began
    kernels = found.key_averages()
    key = "self_device_time_total" if gpu else "self_cpu_time_total"
    busy = sum(getattr(kernel, key) for kernel in kernels) / 1e6
    launched = sum(kernel.count for kernel in kernels)
    print(
        f"== {name}: {1e3 * seconds:.0f} ms, busy for {1e3 * busy:.0f} ms with {launched} kernels", flush=True
    )
    for kernel in sorted(kernels, key=lambda kernel: -getattr(kernel, key))[:12]:
        print(f"{getattr(kernel, key) / 1e3:10.2f} ms {kernel.count:6} x {kernel.key[:100]}", flush=True)
    return result


def watch(batch: int) -> None:
    """Let PPOTrainer's passes be watched in the cycle `batch`, counted from 0."""
    from alignment.ppo import trainer

    plain = trainer.PPOTrainer.training_step, trainer.measure
    cycle = {"now": -1, "updates": 0}

    def measured(*given: Any) -> Any:
        cycle["now"] += 1
        if cycle["now"] != batch:
            return plain[1](*given)
        return watched("measuring the rollout", lambda: plain[1](*given))

    def stepped(self: Any, *given: Any) -> Any:
        if cycle["now"] != batch or cycle["updates"] >= 3:
            return plain[0](self, *given)
        cycle["updates"] += 1
        return watched(f"micro-batch {cycle['updates']}", lambda: plain[0](self, *given))

    trainer.measure = measured
    trainer.PPOTrainer.training_step = stepped  # type: ignore[method-assign]


def compile_backbones(model: Any) -> None:
    """In place of packed.compile_layers: all layers of actor and critic, or of a reference, in one graph."""
    from alignment.ppo.critic import unwrap

    backbones = [unwrap(model).base_model]
    if hasattr(model, "critic"):
        backbones.append(model.critic.backbone)
    for backbone in backbones:
        backbone.compile(dynamic=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--prompt-characters", type=int, default=600)
    parser.add_argument("--micro", type=int, default=128)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("set", nargs="*", help="key=value, of the stage")
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    arguments.batches = 3
    ppo_speed.prepare(arguments)
    watch(batch=2)
    if arguments.whole:
        from alignment.ppo import trainer

        trainer.compile_layers = compile_backbones
    settings = {"trainer.rollout_engine": "graph", "trainer.torch_compile": True, "model.dtype": "float32"}
    told = {"micro": arguments.micro, "set": settings}
    ppo_speed.ours(arguments, told, arguments.work)


if __name__ == "__main__":
    main()
