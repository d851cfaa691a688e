"""The page's samples: prompts drawn by the run's seed, with every candidate's answer beside the others'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alignment.evaluation.answers import talks
from alignment.evaluation.llm_judge import conversation
from alignment.report.page import Column, Sample
from alignment.report.text import number

if TYPE_CHECKING:
    from alignment.evaluation.report import Evidence

SAMPLES = 10


def samples(evidence: Evidence) -> list[Sample]:
    """Ten prompts chosen by the run's seed alone."""
    count = min(SAMPLES, len(evidence.prompts))
    order = np.random.default_rng(evidence.config.run.seed).permutation(len(evidence.prompts))
    chosen = sorted(int(i) for i in order[:count])
    score = getattr(evidence.judge, "scores", None)
    samples = []
    for i in chosen:
        prompt = evidence.prompts[i]
        answers = {name: talks(prompt, rows[i])[0][-1] for name, rows in evidence.ordered.items()}
        scores = score([prompt] * len(answers), list(answers.values())) if score else [None] * len(answers)
        known = {s for s in scores if s is not None}
        best = max(known) if len(known) > 1 else None  # where all are equal, none stands out
        columns = [
            Column(
                name,
                conversation(answer),
                _remark(s, answer.finished),
                "good" if s is not None and s == best else "plain",
            )
            for (name, answer), s in zip(answers.items(), scores, strict=True)
        ]
        samples.append(Sample([(m["role"], m["content"]) for m in prompt.messages], columns))
    return samples


def _remark(score: float | None, finished: bool | None) -> str:
    parts = [] if score is None else [f"score {number(score)}"]
    return ", ".join([*parts, *(["cut off"] if finished is False else [])])
