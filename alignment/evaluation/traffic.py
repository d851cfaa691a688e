"""A log of production against what was evaluated: do people ask what we tested, and is it answered alike?

Lengths, refusals and scores are compared over every row of the log, topics over a sample of it drawn by lot,
each different prompt once. What is said to differ does so with all tests together erring in 5% (Bonferroni).
Rows with the same prompt are not independent: intervals resample prompts.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from alignment.data.contamination import words
from alignment.data.lines import read_lines
from alignment.data.refusals import is_refusal
from alignment.errors import UserError
from alignment.evaluation.logs import Logged, decode_logged
from alignment.evaluation.stored import Stored, read_judges, read_texts
from alignment.stats import bootstrap_interval, difference_of_means, divergence_test

FORMAT = 1
SAMPLED = 3_000  # rows of the log whose topics are compared
SCORED = 500  # rows of the log that a scorer reads
FIGURES = 6  # that may be compared: two topics, two lengths, refusals, scores
READ = 2_000  # characters of a text in which its topic is looked for
NAMED = 12  # words that are named as commoner on one side
FEW = 100  # different prompts, below which bootstrap intervals are too narrow to lean on
LEAST = 20  # different prompts, below which nothing is compared: an interval draws whole prompts

Score = Callable[[list[list[dict[str, Any]]], list[str]], list[float]]


@dataclass
class Side:
    """What is kept of a side, a number a row; texts of a sample alone."""

    groups: array[int] = field(default_factory=lambda: array("Q"))
    prompt_words: array[float] = field(default_factory=lambda: array("d"))
    words: array[float] = field(default_factory=lambda: array("d"))
    refusals: array[float] = field(default_factory=lambda: array("d"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    sample: list[Logged] = field(default_factory=list)

    def add(self, row: Logged) -> None:
        """Count a row; its texts are not kept."""
        self.groups.append(_number(row.prompt))
        self.prompt_words.append(len(row.prompt.split()))
        self.words.append(len(row.completion.split()))
        self.refusals.append(is_refusal(row.completion))
        self.scores.append(math.nan if row.score is None else row.score)


def compare_log(
    run: Stored,
    paths: Sequence[str | Path],
    model: str | None = None,
    *,
    score: Score | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The rows of a log (see logs.decode_logged) against the prompts of a run and one candidate's answers.

    model: the candidate; by default the first of the first comparison. score: prompts and answers -> rewards,
    asked of at most SCORED rows of either side; without it the scores in the log are set beside those of the
    run's judge, where both have any. The result:

    {format, run, model, log {files, rows, prompts}, level, verdict {text, detail, tone, differs [names]},
    figures {prompt_words, words, refusals, score: {evaluation, log: {value, low, high, n}, difference {value,
    low, high, n}, differs, quantiles {evaluation, log: [p5, p50, p95]}}}, topics {prompts, answers: {value,
    expected, p, sampled, differs, more_in_log, more_in_evaluation: [{word, log, evaluation}]}}, warnings}

    Differences are the log's less the evaluation's, their intervals of `level`; divergences are in bits.
    Raises UserError for a log without rows, a row that is none, and a candidate that the run does not have.
    """
    name = model if model is not None else next(iter(run.comparisons.values())).a
    tested = _evaluated(run, name, seed)
    log = _logged(paths, seed)
    few = min(len(set(side.groups)) for side in (tested, log))
    if few < LEAST:
        raise UserError(
            f"{few} different prompts are too few to compare: the log and the evaluation need {LEAST} each"
        )
    what = _scores(tested, log, score)
    level = 1.0 - 0.05 / FIGURES
    figures = {
        key: _figure(getattr(tested, key), getattr(log, key), tested.groups, log.groups, level, seed)
        for key in ("prompt_words", "words", "refusals")
    }
    if what is not None:
        figures["score"] = _figure(*what, level, seed)
    # The test of topics deals texts out by lot, so each prompt may come once: its rows are not independent.
    tests, logs = (list({row.prompt: row for row in side.sample}.values()) for side in (tested, log))
    topics = {
        "prompts": _topic([row.prompt for row in tests], [row.prompt for row in logs], seed),
        "answers": _topic([row.completion for row in tests], [row.completion for row in logs], seed),
    }
    return {
        "format": FORMAT,
        "run": run.folder,
        "model": name,
        "log": {
            "files": [str(path) for path in paths],
            "rows": len(log.groups),
            "prompts": len(set(log.groups)),
        },
        "level": level,
        "verdict": _verdict(figures, topics, len(log.groups), len(set(tested.groups))),
        "figures": figures,
        "topics": topics,
        "warnings": _warnings(run, tested, log, score is not None),
    }


def _evaluated(run: Stored, name: str, seed: int) -> Side:
    """The prompts of a run with the answers of one candidate."""
    side = Side()
    scores = read_judges(run)[run.judge].scores
    for key, answers in read_texts(run):
        known = scores.get((name, key), [])
        for k, said in enumerate(answers.get(name, ())):
            score = known[k] if k < len(known) else None
            row = Logged(str(said.messages[-1]["content"] or ""), said.text, score, said.messages)
            side.add(row)
            if k == 0:
                side.sample.append(row)
    if not side.groups:
        names = ", ".join(run.models)
        raise UserError(f"{run.folder} has no answers of {name}; its candidates are {names}")
    random.Random(seed).shuffle(side.sample)  # noqa: S311 (no secret)
    del side.sample[SAMPLED:]
    return side


def _logged(paths: Sequence[str | Path], seed: int) -> Side:
    """The rows of a log, in a stream, and SAMPLED of them drawn by lot (Vitter's algorithm R)."""
    side, lots = Side(), random.Random(seed)  # noqa: S311 (no secret)
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"{path} is not a file")
        for where, line in read_lines(Path(path)):
            row = decode_logged(line, where)
            side.add(row)
            if len(side.sample) < SAMPLED:
                side.sample.append(row)
            elif (place := lots.randrange(len(side.groups))) < SAMPLED:
                side.sample[place] = row
    lots.shuffle(side.sample)  # so that a part of it is a sample too
    return side


def _scores(tested: Side, log: Side, score: Score | None) -> tuple[Any, Any, Any, Any] | None:
    """(evaluation's scores, the log's, their groups) or None where a side has none."""
    if score is not None:
        read = [side.sample[:SCORED] for side in (tested, log)]
        made = [np.array(score([r.messages for r in rows], [r.completion for r in rows])) for rows in read]
        groups = [np.array([_number(r.prompt) for r in rows]) for rows in read]
    else:
        known = [~np.isnan(side.scores) for side in (tested, log)]
        if not all(mask.sum() >= LEAST for mask in known):
            return None
        made = [np.array(side.scores)[mask] for side, mask in zip((tested, log), known, strict=True)]
        groups = [np.array(side.groups)[mask] for side, mask in zip((tested, log), known, strict=True)]
    return made[0], made[1], groups[0], groups[1]


def _figure(
    tested: Any, log: Any, tested_groups: Any, log_groups: Any, level: float, seed: int
) -> dict[str, Any]:
    """Means of both sides with their intervals, and the difference with the interval that decides."""
    sides = [np.asarray(tested), np.asarray(log)]
    groups = [np.asarray(tested_groups), np.asarray(log_groups)]
    many = 10_000 if max(map(len, sides)) <= 20_000 else 2_000
    change = difference_of_means(
        sides[1], sides[0], (groups[1], groups[0]), resamples=many, level=level, seed=seed
    )
    alone = [
        bootstrap_interval(values, names, resamples=many, seed=seed)
        for values, names in zip(sides, groups, strict=True)
    ]
    return {
        "evaluation": alone[0]._asdict(),
        "log": alone[1]._asdict(),
        "difference": change._asdict(),
        "differs": change.low > 0 or change.high < 0,
        "quantiles": {
            side: np.quantile(v, [0.05, 0.5, 0.95]).tolist()
            for side, v in zip(("evaluation", "log"), sides, strict=True)
        },
    }


def _topic(tested: list[str], log: list[str], seed: int) -> dict[str, Any] | None:
    """How far two sets of texts are apart in words and pairs of words, and the words that make it so.

    None where there is too little text to compare.
    """
    numbers: dict[str, int] = {}
    sides = [[_features(text, numbers) for text in texts] for texts in (tested, log)]
    try:
        found = divergence_test(*sides, seed=seed)
    except ValueError:
        return None
    names = list(numbers)
    shares = []
    for side in sides:
        counts = Counter(feature for text in side for feature in text)
        shares.append({f: counts[f] / len(side) for f in counts if " " not in names[f]})
    seen = shares[0].keys() | shares[1].keys()
    gaps = sorted(((shares[1].get(f, 0.0) - shares[0].get(f, 0.0), names[f], f) for f in seen), reverse=True)

    def told(rows: Sequence[tuple[float, str, int]]) -> list[dict[str, Any]]:
        return [
            {"word": w, "log": shares[1].get(f, 0.0), "evaluation": shares[0].get(f, 0.0)} for _, w, f in rows
        ]

    return {
        **found._asdict(),
        "sampled": len(log),
        "differs": found.p <= 0.05 / FIGURES,
        "more_in_log": told([row for row in gaps[:NAMED] if row[0] > 0]),
        "more_in_evaluation": told([row for row in gaps[::-1][:NAMED] if row[0] < 0]),
    }


def _features(text: str, numbers: dict[str, int]) -> list[int]:
    """The words of a text and their pairs as numbers, each once; `numbers` learns those it has not met."""
    spoken = words(text[:READ])
    pairs = [f"{a} {b}" for a, b in pairwise(spoken)]
    return [numbers.setdefault(feature, len(numbers)) for feature in dict.fromkeys([*spoken, *pairs])]


def _number(prompt: str) -> int:
    """A prompt as a number of 64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _verdict(figures: dict[str, Any], topics: dict[str, Any], rows: int, prompts: int) -> dict[str, Any]:
    """In one sentence: in what the log differs from the evaluation by more than chance."""
    names = {
        "prompt_words": "the length of prompts",
        "words": "the length of answers",
        "refusals": "the rate of refusals",
        "score": "the reward",
    }
    differs = [name for key, name in names.items() if key in figures and figures[key]["differs"]]
    differs = [f"the topics of {key}" for key, t in topics.items() if t and t["differs"]] + differs
    if differs:
        listed = differs[0] if len(differs) == 1 else f"{', '.join(differs[:-1])} and {differs[-1]}"
        text = f"The log differs from the evaluation by more than chance in {listed}."
    else:
        text = "The log is not told from the evaluation by any of these figures."
    detail = f"{rows:,} rows of the log against {prompts:,} prompts of the evaluation; all tests together "
    detail += "err in 5%."
    return {"text": text, "detail": detail, "tone": "unsure" if differs else "good", "differs": differs}


def _warnings(run: Stored, tested: Side, log: Side, scored: bool) -> list[str]:
    found = []
    fewest = min(len(set(side.groups)) for side in (tested, log))
    if fewest < FEW:
        found.append(f"Only {fewest} different prompts on one side; intervals of so few are too narrow.")
    unknown = sum(map(math.isnan, log.scores))
    if not scored and 0 < unknown < len(log.scores):
        found.append(f"{unknown:,} rows of the log have no score; rewards are compared on the others.")
    if not scored and unknown < len(log.scores) and not all(map(math.isnan, tested.scores)):
        found.append(
            f"The scores in the log are compared with those of {run.judge}, which means something only if "
            "they are of the same model. Give --scorer to have both sides scored by one."
        )
    return found
