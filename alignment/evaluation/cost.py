"""What answers cost: tokens a second in batches, seconds for one answer asked alone, peak memory.

Throughput in batches says what many answers cost; how long somebody waits for one is another figure, so a few
prompts are asked one by one besides. Both are measured while the answers are made and kept beside them in
costs.json: {MODEL: {source, device, memory, batches: [{seconds, tokens, answers, peak_bytes}], single:
[{seconds, tokens}]}}; seconds hold no loading of weights. A model behind an address has no batches: its
`single` are the requests in its journal, as many at a time as the config says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.data.files import atomic_output
from alignment.evaluation.answers import Prompt, is_endpoint, is_file

if TYPE_CHECKING:
    from alignment.backend.generation import GenerationSection
    from alignment.evaluation.config import Config

COSTS = "costs.json"
SINGLE = "single.json"
NOT_MEASURED: dict[str, Any] = {"source": None, "batches": [], "single": []}


@contextmanager
def measured(file: Path, model: Any) -> Iterator[list[int]]:
    """Time and memory of making the answers of `file`, kept beside it; the block gets a list for the tokens.

    What stands beside `file` is written before it, so that no answers are without their cost.
    """
    from alignment.backend.peak import PeakMemory

    tokens: list[int] = []
    with PeakMemory(model.device) as peak:
        started = time.perf_counter()
        yield tokens
        seconds = time.perf_counter() - started
    entry = {
        "seconds": seconds,
        "tokens": sum(tokens),
        "answers": len(tokens),
        "peak_bytes": peak.bytes,
        "memory": peak.kind,
        "device": _device(model.device),
    }
    _write(_beside(file), entry)


def measure_single(
    folder: Path,
    prompts: Sequence[Prompt],
    most: int,
    settings: GenerationSection,
    model: Callable[[], tuple[Any, Any]],
) -> None:
    """Seconds and tokens of the answers to `most` prompts, spread over all, asked one by one.

    Kept in `folder` and not measured again. The first is asked twice, for what is made ready only once. The
    graph engine is left out: it captures its graph anew for each call, which a service would not.
    """
    file = folder / SINGLE
    if file.exists() or most == 0:
        return
    from alignment.backend.generation import generate

    loaded, tokenizer = model()
    alone = settings.model_copy(update={"engine": "transformers"})
    places = np.linspace(0, len(prompts) - 1, min(most, len(prompts))).round().astype(int)
    found = []
    for number, at in enumerate([places[0], *places]):
        started = time.perf_counter()
        ((got,),) = generate(loaded, tokenizer, [prompts[at].messages], alone)
        if number:
            seconds = time.perf_counter() - started
            found.append({"seconds": seconds, "tokens": len(got.token_ids)})
    _write(file, found)


def costs_of(config: Config, answers: Path, replies: Path) -> dict[str, Any]:
    """What the answers of every candidate cost, as it lies on disk.

    answers: the folder with a folder of parts for each model; replies: the one with the journals. A file of
    completions brings what an earlier evaluation left beside it in costs.json.
    """
    costs: dict[str, Any] = {}
    for name, path in config.models.items():
        if is_file(path):
            earlier = Path(path).parent / COSTS
            kept = json.loads(earlier.read_text(encoding="utf-8")) if earlier.is_file() else {}
            costs[name] = kept.get(name, NOT_MEASURED)
        elif is_endpoint(path):
            journal = (replies / f"{name}.jsonl").read_text(encoding="utf-8")
            seconds = [json.loads(line)["seconds"] for line in journal.splitlines()]
            costs[name] = {
                "source": "requests",
                "at_a_time": config.api.concurrency,
                "batches": [],
                "single": [{"seconds": value, "tokens": None} for value in seconds],
            }
        else:
            parts = [_read(file) for file in sorted((answers / name).glob("*.cost.json"))]
            single = answers / name / SINGLE
            costs[name] = {
                "source": "here",
                "device": parts[-1]["device"] if parts else None,
                "memory": parts[-1]["memory"] if parts else None,
                "batches": [{k: p[k] for k in ("seconds", "tokens", "answers", "peak_bytes")} for p in parts],
                "single": _read(single) if single.exists() else [],
            }
    return costs


def cost_figures(cost: dict[str, Any]) -> dict[str, Any]:
    """The figures of one candidate, for `cost.{model}` of report.json; None where it was not measured.

    {source, device, tokens_per_second, tokens, seconds, answers (in batches), latency {p50, p95, least, most,
    n, tokens_per_second, at_a_time} in seconds an answer, peak_bytes, memory}.
    """
    batches, single = cost["batches"], cost["single"]
    seconds, tokens = (sum(batch[key] for batch in batches) for key in ("seconds", "tokens"))
    peaks = [batch["peak_bytes"] for batch in batches if batch["peak_bytes"] is not None]
    return {
        "source": cost["source"],
        "device": cost.get("device"),
        "tokens_per_second": tokens / seconds if seconds else None,
        "tokens": tokens if batches else None,
        "seconds": seconds if batches else None,
        "answers": sum(batch["answers"] for batch in batches) if batches else None,
        "latency": _latency(single, cost.get("at_a_time", 1)) if single else None,
        "peak_bytes": max(peaks, default=None),
        "memory": cost.get("memory"),
    }


def _latency(single: Sequence[dict[str, Any]], at_a_time: int) -> dict[str, Any]:
    seconds = [one["seconds"] for one in single]
    tokens = [one["tokens"] for one in single]
    known = None not in tokens
    middle, high = np.quantile(seconds, [0.5, 0.95])
    return {
        "p50": float(middle),
        "p95": float(high),
        "least": min(seconds),
        "most": max(seconds),
        "n": len(seconds),
        "tokens_per_second": sum(tokens) / sum(seconds) if known and sum(seconds) else None,
        "at_a_time": at_a_time,
    }


def write_costs(folder: Path, costs: dict[str, Any]) -> None:
    """costs.json of a run directory."""
    _write(folder / COSTS, costs)


def _device(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type.upper()}, {threads} thread{'' if threads == 1 else 's'}"


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.cost.json")


def _write(file: Path, content: Any) -> None:
    with atomic_output(file, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
