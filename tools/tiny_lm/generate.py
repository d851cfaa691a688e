"""Write the corpus of the embedded model, and demonstration candidates, with SmolLM2-135M-Instruct.

    python generate.py --teacher DIR --out DIR --seconds 280

Writes OUT/corpus.jsonl ({"kind", "question", "text"}), OUT/demonstrations.jsonl.gz ({"id", "prompt",
"completions"}), OUT/held_out.jsonl and OUT/generation.json (counts, rates, settings). The GPU samples while
worker processes make prompts, decode, clean and filter. Stops at the wall-clock limit.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import Counter, deque
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from filters import WORD, Seen, clean, keys_of, rejected
from prompts import Prompt, corpus_prompt, quickstart_prompts

from alignment.evaluation.program import request, words_of

SYSTEM = "You write short texts in easy words."
EOS = 2  # <|im_end|> of SmolLM2, also its padding
COMMON = {"people", "difference", "feel", "care", "lost", "day", "became", "hot", "dry", "friend", "main"}
TOKENIZER: Any = None


def start_worker(path: str) -> None:
    """Each worker process has its own tokenizer (no torch)."""
    global TOKENIZER
    from tokenizers import Tokenizer

    TOKENIZER = Tokenizer.from_file(path)


def encode(prompts: list[Prompt], width: int) -> tuple[list[Prompt], np.ndarray, np.ndarray]:
    """Left-padded ids (n, width) and each row's first real column; a prompt too long gives way to the first."""
    texts = [
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{p.shown[0]}<|im_end|>\n"
        f"<|im_start|>assistant\n{p.shown[1]}<|im_end|>\n<|im_start|>user\n{p.text}<|im_end|>\n"
        "<|im_start|>assistant\n"
        for p in prompts
    ]
    ids = np.full((len(texts), width), EOS, np.int64)
    start = np.zeros(len(texts), np.int32)
    encodings = TOKENIZER.encode_batch(texts, add_special_tokens=False)
    for row, encoding in enumerate(encodings):
        if len(encoding.ids) > width:
            encoding, prompts[row] = encodings[0], prompts[0]
        start[row] = width - len(encoding.ids)
        ids[row, start[row] :] = encoding.ids
    return prompts, ids, start


def corpus_batch(seed: int, size: int, width: int) -> tuple[list[Prompt], np.ndarray, np.ndarray]:
    """One batch of corpus prompts, from its own seed."""
    rng = random.Random(seed)
    return encode([corpus_prompt(rng) for _ in range(size)], width)


def texts_of(prompts: list[Prompt], rows: np.ndarray) -> list[tuple[str, str, str, int, Any]]:
    """(prompt id or corpus line, cleaned text, why rejected or '', tokens, keys) for each row."""
    out = []
    for prompt, row in zip(prompts, rows, strict=True):
        ends = np.flatnonzero(row == EOS)
        length = int(ends[0]) if len(ends) else int((row >= 0).sum())
        text = clean(TOKENIZER.decode(row[:length].tolist()))
        why = rejected(text, 12 if prompt.kind == "story" else 8) if len(ends) else "not finished"
        why = why or leaked(prompt, text)
        line = json.dumps({"kind": prompt.kind, "question": prompt.question, "text": text}) + "\n"
        out.append((prompt.id or line, text, why, length, None if why else keys_of(text)))
    return out


def leaked(prompt: Prompt, text: str) -> str:
    """'leak' when the text takes up what the worked example, and not the request, was about."""
    asked = {word.removesuffix("s") for word in words_of(prompt.text)} | COMMON
    shown = {word.removesuffix("s") for word in request([{"role": "user", "content": prompt.shown[0]}])[0]}
    if (shown - asked) & {word.removesuffix("s") for word in words_of(text)}:
        return "leak"
    mine, answer = WORD.findall(text.lower()), WORD.findall(prompt.shown[1].lower())
    return "leak" if _runs(mine) & _runs(answer) else ""


def _runs(words: list[str], n: int = 5) -> set[tuple[str, ...]]:
    """All runs of n words."""
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


class Sink:
    """Filters duplicates, writes what is kept, counts the rest."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "w", encoding="utf-8")  # noqa: SIM115 (closed by main, at the end)
        self.seen = Seen()
        self.counts: Counter[str] = Counter()
        self.tokens = 0
        self.characters = 0

    def take(self, results: list[tuple[str, str, str, int, Any]]) -> None:
        for line, text, why, tokens, keys in results:
            why = why or self.seen.again(keys)
            self.counts[why or "kept"] += 1
            if not why:
                self.tokens += tokens
                self.characters += len(text)
                self.file.write(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=280, help="of the whole script, loading included")
    parser.add_argument("--batch", type=int, default=3072)
    parser.add_argument("--prompt-tokens", type=int, default=136)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.65)
    parser.add_argument("--min-p", type=float, default=0.1)
    parser.add_argument(
        "--penalty", type=float, default=0.3, help="nats off the logits of tokens already used"
    )
    parser.add_argument("--train-prompts", type=int, default=6000)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--each", type=int, default=6, help="teacher answers per quickstart prompt")
    parser.add_argument("--max-batches", type=int, default=10**9)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.time()
    args.out.mkdir(parents=True, exist_ok=True)

    def log(line: str) -> None:
        print(f"[{time.time() - began:6.1f} s] {line}", flush=True)

    pool = get_context("spawn").Pool(args.workers, start_worker, (str(args.teacher / "tokenizer.json"),))
    width, size = args.prompt_tokens, args.batch
    seeds = iter(range(args.seed * 1_000_003, 10**12))

    def ask_corpus() -> Any:
        return pool.apply_async(corpus_batch, (next(seeds), size, width))

    coming = deque(ask_corpus() for _ in range(4))
    train, held_out = quickstart_prompts(args.train_prompts, args.held_out, args.seed)
    with open(args.out / "held_out.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in held_out)

    import torch
    from decoder import Decoder
    from transformers import AutoModelForCausalLM

    cuda = torch.cuda.is_available()
    torch.manual_seed(args.seed)
    dtype = torch.bfloat16 if cuda else torch.float32
    model = (
        AutoModelForCausalLM.from_pretrained(args.teacher, dtype=dtype).to("cuda" if cuda else "cpu").eval()
    )
    decoder = Decoder(model, size, width, args.new_tokens, EOS, args.temperature, args.min_p, args.penalty)
    log("teacher loaded")

    def generate(ids: np.ndarray, start: np.ndarray) -> np.ndarray:
        return decoder.generate(torch.from_numpy(ids), torch.from_numpy(start)).numpy()

    def read(prompts: list[Prompt], rows: np.ndarray) -> list[Any]:
        step = -(-len(prompts) // 4)
        return [
            pool.apply_async(texts_of, (prompts[i : i + step], rows[i : i + step]))
            for i in range(0, len(prompts), step)
        ]

    _, ids, start = coming[0].get()
    decoder.prefill(torch.from_numpy(ids), torch.from_numpy(start))
    decoder.speed_up(log)
    log(f"decoder ready: {decoder.how}")

    # 1. demonstration candidates
    tasks = [prompt for prompt in train for _ in range(args.each)]
    pending = []
    for first in range(0, len(tasks), size):
        if time.time() - began > 0.4 * args.seconds:
            log(f"demonstrations cut at {first} of {len(tasks)} for want of time")
            break
        part = tasks[first : first + size]
        _, ids, start = pool.apply(encode, (part + tasks[: size - len(part)], width))
        pending += read(part, generate(ids, start)[: len(part)])
    answers: dict[str, list[str]] = {}
    for key, text, why, _, _ in (row for job in pending for row in job.get()):
        if not why and text not in answers.setdefault(key, []):
            answers[key].append(text)
    by_id = {prompt.id: prompt.text for prompt in train}
    with gzip.open(args.out / "demonstrations.jsonl.gz", "wt", encoding="utf-8") as file:
        for key, texts in answers.items():
            file.write(json.dumps({"id": key, "prompt": by_id[key], "completions": texts}) + "\n")
    log(f"demonstrations: {sum(map(len, answers.values()))} candidates for {len(answers)} prompts")

    # 2. the corpus, until the time is up
    sink = Sink(args.out / "corpus.jsonl")
    busy: deque[Any] = deque()
    corpus_began = shown = time.time()
    batches, raw = 0, 0
    while time.time() - began < args.seconds - 4 and batches < args.max_batches:
        prompts, ids, start = coming.popleft().get()
        coming.append(ask_corpus())
        rows = generate(ids, start)
        busy.extend(read(prompts, rows))
        batches, raw = batches + 1, raw + int((rows > EOS).sum())
        while busy and busy[0].ready():
            sink.take(busy.popleft().get())
        if time.time() - shown > 15:
            shown = time.time()
            log(f"{batches} batches, {raw / (shown - corpus_began):,.0f} tokens/s, kept {sink.tokens:,}, "
                f"waiting {len(busy)}")  # fmt: skip
    spent = time.time() - corpus_began
    while busy:
        sink.take(busy.popleft().get())
    sink.file.close()
    pool.terminate()
    summary = {
        "teacher": "SmolLM2-135M-Instruct (Q4_1)", "system": SYSTEM, "decoder": decoder.how, "seconds": round(spent, 1),
        "batches": batches, "raw_tokens": raw, "kept_tokens": sink.tokens, "kept_characters": sink.characters,
        "rows": dict(sink.counts.most_common()), "tokens_per_second": round(raw / max(spent, 1e-9)),
        "settings": {k: v for k, v in vars(args).items() if k not in ("teacher", "out")},
        "demonstration_candidates": sum(map(len, answers.values())),
    }  # fmt: skip
    (args.out / "generation.json").write_text(json.dumps(summary, indent=1) + "\n")
    log(json.dumps(summary))


if __name__ == "__main__":
    main()
