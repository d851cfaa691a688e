"""All that needs a model: answers from each, and how likely answers are under each. One model at a time.

A model's KL from its parent needs the parent to read the model's answers, so children come before their
parents and the base, which reads everybody's, comes last: each model is loaded once. What is done is on disk
at once, in `parts/` of the run directory, and a second start takes it from there.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from alignment.backend.config import ModelSection
from alignment.backend.generation.settings import GenerationSection
from alignment.backend.progress import Steps
from alignment.data.files import atomic_output
from alignment.evaluation.answers import (
    Answer,
    Answers,
    Prompt,
    asked,
    is_endpoint,
    is_file,
    read_answers,
)
from alignment.evaluation.likelihood import LogProb, completion_log_probs
from alignment.evaluation.sampled import answers_wanted, sample_answers

# What a likelihood was computed for: the answers that are judged, or unwarped samples drawn for the KL.
ANSWERS, KL_SAMPLES = "answers", "kl_samples"


@dataclass
class Collected:
    """Answers by model; log-probabilities by (whose answers, under which model, ANSWERS or KL_SAMPLES)."""

    answers: dict[str, Answers] = field(default_factory=dict)
    kl_samples: dict[str, Answers] = field(default_factory=dict)
    log_probs: dict[tuple[str, str, str], list[LogProb]] = field(default_factory=dict)
    unlike: dict[str, str] = field(default_factory=dict)  # model -> why it has no KL


def loading_order(models: Sequence[str], parents: Mapping[str, str], base: str | None) -> list[str]:
    """The models with every child before its parent, and the base last."""

    def depth(name: str) -> int:
        return 0 if name not in parents else 1 + depth(parents[name])

    return sorted(models, key=lambda name: (name == base, -depth(name)))


def is_warped(settings: GenerationSection) -> bool:
    """Whether samples are drawn from something else than the model's own distribution."""
    return settings.temperature != 1.0 or settings.top_p < 1.0 or settings.top_k > 0


def open_candidates(
    candidates: Mapping[str, str], prompts: Sequence[Prompt], samples: int
) -> tuple[dict[str, Answers], dict[str, Any]]:
    """Answers of the candidates that are files, and tokenizers of those that are models here, by name.

    Loads no weights. Raises UserError for a file without answers to all prompts, a path without a model, and
    a tokenizer without a chat template.
    """
    from alignment.backend.chat import require_template
    from alignment.backend.models import load_tokenizer

    files = {n: read_answers(path, n, prompts, samples) for n, path in candidates.items() if is_file(path)}
    here = {n: path for n, path in candidates.items() if not is_file(path) and not is_endpoint(path)}
    tokenizers = {n: load_tokenizer(path) for n, path in here.items()}
    for tokenizer in tokenizers.values():
        require_template(tokenizer)
    return files, tokenizers


def collect(
    candidates: Mapping[str, str],
    files: Mapping[str, Answers],
    tokenizers: Mapping[str, Any],
    prompts: Sequence[Prompt],
    *,
    samples: int,
    settings: GenerationSection,
    parents: Mapping[str, str],
    base: str | None,
    dtype: str,
    folder: Path,
    visit: Callable[[str, Any, Any], None] = lambda name, load, tokenizer: None,
) -> Collected:
    """Answers of every candidate and the likelihoods that KL and the base's control need.

    candidates: name -> model path or file of completions; files, tokenizers: from `open_candidates`;
    parents: child -> parent, both models; base: the frozen model that reads every answer (None: no such
    control); visit: called with (name, load, tokenizer) while that model is the one in memory, for whatever
    else is to be measured of it; `load()` gives the model. Raises UserError for a model that cannot be loaded
    and a prompt that is too long.
    """
    done = Collected(answers=dict(files))
    paths = {name: path for name, path in candidates.items() if name in tokenizers}
    vocabularies = {name: tokenizer.get_vocab() for name, tokenizer in tokenizers.items()}
    plain = settings.model_copy(update={"temperature": 1.0, "top_p": 1.0, "top_k": 0})
    kind = KL_SAMPLES if is_warped(settings) else ANSWERS

    for name in loading_order(list(paths), parents, base):
        gc.collect()  # the last model sits in reference cycles; it must go before the next one comes
        load = cache(lambda path=paths[name]: _load(path, dtype))

        def sampled(what: str, how: GenerationSection, name: str = name, load: Any = load) -> Answers:
            with Steps(f"{name}: {what.replace('_', ' ')}", answers_wanted(prompts, samples)) as steps:
                count = Counter(steps)
                model = lambda: (load(), tokenizers[name])  # noqa: E731
                return sample_answers(folder / what / name, prompts, samples, how, name, model, count)

        done.answers[name] = sampled(ANSWERS, settings)
        for_kl = done.answers[name]
        if kind == KL_SAMPLES and name in parents:
            for_kl = done.kl_samples[name] = sampled(KL_SAMPLES, plain)
        if name not in parents:
            done.unlike[name] = "it has no parent"
        elif vocabularies[name] != vocabularies[parents[name]]:
            done.unlike[name] = f"its tokens are not those of its parent {parents[name]}"

        wanted = {(name, kind): for_kl} if name not in done.unlike else {}
        for child, parent in parents.items():
            if parent == name and child not in done.unlike:
                wanted[child, kind] = done.kl_samples.get(child, done.answers[child])
        if name == base:
            wanted |= {(author, ANSWERS): rows for author, rows in done.answers.items()}
        with Steps(f"{name}: likelihoods", len(wanted) * answers_wanted(prompts, samples)) as steps:
            count = Counter(steps)
            for (author, what), answers in wanted.items():
                same = author in paths and vocabularies[author] == vocabularies[name]
                rows = _token_rows(tokenizers[author if same else name], prompts, answers, as_sampled=same)
                file = folder / "likelihoods" / f"{author}-under-{name}-{what}.json"
                done.log_probs[author, name, what] = _likelihood(file, load, rows, count)
        visit(name, load, tokenizers[name])
    return done


def _token_rows(
    tokenizer: Any, prompts: Sequence[Prompt], answers: Answers, as_sampled: bool
) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, completion ids) of every answer; ids as sampled where they are known and mean the same."""
    from alignment.backend.chat import encode, render_prompt

    rows = []
    for prompt, row in zip(prompts, answers, strict=True):
        first = render_prompt(tokenizer, prompt.messages)
        for answer in row:
            ids = render_prompt(tokenizer, asked(prompt, answer)) if answer.before else first
            if as_sampled and answer.token_ids is not None:
                rows.append((ids, answer.token_ids))
            else:
                rows.append((ids, encode(tokenizer, answer.text) + _closing(tokenizer, answer)))
    return rows


def _closing(tokenizer: Any, answer: Answer) -> list[int]:
    """The EOS of an answer that ended; one that was cut off has none, nor has a tokenizer without EOS."""
    return [] if answer.finished is False or tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _likelihood(file: Path, load: Any, rows: list[Any], count: Any) -> list[LogProb]:
    """What `file` holds; if it is not there yet, it is computed first."""
    if file.exists():
        count(len(rows))
    else:
        log_probs = completion_log_probs(load(), rows, progress=count)
        with atomic_output(file) as temporary:
            temporary.write_text(json.dumps(log_probs), encoding="utf-8")
    return [LogProb(*pair) for pair in json.loads(file.read_text(encoding="utf-8"))]


def _load(path: str, dtype: str) -> Any:
    from alignment.backend.models import load_policy

    return load_policy(ModelSection(path=path, dtype=dtype), trainable=False)  # type: ignore[arg-type]


class Counter:
    """Adds up what batches report, for a bar that wants the sum."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.done = steps, 0

    def __call__(self, more: int) -> None:
        self.done += more
        self.steps.update(self.done)
