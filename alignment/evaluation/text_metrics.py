"""ROUGE, BLEU, chrF, F1 and exact match as modules of the `evaluate` package that need no hub.

    text_metrics().compute(predictions=[…], references=[[…], …])     {"rouge_rouge1": …, "bleu_bleu": …, …}

The formulas are rouge_score's, sacrebleu's and SQuAD's. Each module first takes statistics of every answer,
and then its scores of their sum, so that resampling gives intervals, of BLEU and chrF too, which are no
means.
Imports `evaluate`, which takes seconds: import this module where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize
from sacrebleu.metrics import BLEU, CHRF

from alignment.evaluation.answers import Answer, Answers, Prompt
from alignment.evaluation.matching import exact_match, token_f1
from alignment.stats.intervals import resampled_sums

Floats = NDArray[np.float64]
MOST = 1_000  # prompts that are looked at
RESAMPLES = 2_000


class TextMetric(evaluate.Metric):
    """A metric of n answers with one reference or more each: statistics (n, k), scores of their sum."""

    keys: tuple[str, ...] = ()
    source = ""

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value("string"), "references": ListOf(Value("string"))})
        return evaluate.MetricInfo(
            description=(self.__doc__ or "").strip(),
            citation=self.source,
            inputs_description="predictions: n texts; references: for each a list of texts",
            features=features,
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        sums = self.statistics(predictions, references).sum(0)
        return dict(zip(self.keys, self.scores(sums, len(predictions)), strict=True))

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        raise NotImplementedError

    def scores(self, sums: Floats, n: int) -> list[float]:
        """A score, 0 to 1, for each of `keys`: of mean metrics the mean."""
        return [float(value) / n for value in sums]


class Rouge(TextMetric):
    """ROUGE-1, -2 and -L, F-measures, without stemming; of several references the best. 0 to 1.

    Words are runs of a-z and 0-9: other scripts have none, and score 0.
    """

    keys = ("rouge1", "rouge2", "rougeL")
    source = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries; google-research/rouge"

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=False)
        rows = []
        for text, several in zip(predictions, references, strict=True):
            found = scorer.score_multi(list(several), text)
            longest = max(_rouge_l(reference, text) for reference in several)
            rows.append([found["rouge1"].fmeasure, found["rouge2"].fmeasure, longest])
        return np.array(rows)


class Bleu(TextMetric):
    """Corpus BLEU-4 as sacrebleu has it (tokenizer 13a, exponential smoothing), divided by 100: 0 to 1."""

    keys = ("bleu",)
    source = "Papineni et al. 2002; Post 2018, A Call for Clarity in Reporting BLEU Scores (sacrebleu)"

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        return _sacrebleu_statistics(_bleu(), predictions, references)

    def scores(self, sums: Floats, n: int) -> list[float]:
        return [_bleu()._compute_score_from_stats(sums.astype(int).tolist()).score / 100.0]


class Chrf(TextMetric):
    """Corpus chrF2 (characters, up to 6 in a row) as sacrebleu computes it, divided by 100: 0 to 1."""

    keys = ("chrf",)
    source = "Popović 2015, chrF: character n-gram F-score for automatic MT evaluation (sacrebleu)"

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        return _sacrebleu_statistics(CHRF(), predictions, references)

    def scores(self, sums: Floats, n: int) -> list[float]:
        return [CHRF()._compute_score_from_stats(sums.astype(int).tolist()).score / 100.0]


class Words(TextMetric):
    """Word F1 and exact match, both of SQuAD's normalised texts; of several references the best. 0 to 1."""

    keys = ("f1", "exact_match")
    source = "Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text"

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        pairs = list(zip(predictions, references, strict=True))
        return np.array([[token_f1(p, r), exact_match(p, r)] for p, r in pairs], dtype=np.float64)


def metrics() -> list[TextMetric]:
    """One of each; nothing is written to disk."""
    return [kind(keep_in_memory=True) for kind in (Rouge, Bleu, Chrf, Words)]


def text_metrics() -> Any:
    """All in one, as `evaluate.combine` gives it: its keys have the name of their module before them."""
    return evaluate.combine(metrics(), force_prefix=True)


def text_report(
    prompts: Sequence[Prompt],
    answers: Mapping[str, Answers],
    pairs: Sequence[tuple[str, str]],
    seed: int = 0,
) -> dict[str, Any]:
    """{prompts, of, signatures, models: {name: {metric: interval}}, pairs: {a_vs_b: {…}}} for report.json.

    Of the prompts with a reference (`of`), at most MOST, drawn with `seed`, the same for every candidate. An
    interval is {value, low, high, n} by a percentile bootstrap over these prompts; a pair's is of a less b.
    """
    known = [i for i, prompt in enumerate(prompts) if prompt.reference]
    drawn = np.random.default_rng(seed).permutation(len(known))[:MOST]
    chosen = [known[int(i)] for i in np.sort(drawn)]
    blocks = {
        name: [_by_prompt(metric, prompts, rows, chosen) for metric in metrics()]
        for name, rows in answers.items()
    }
    columns = np.concatenate([block for mine in blocks.values() for block in mine], axis=1)
    sums = np.concatenate(
        [columns.sum(0)[None], resampled_sums(columns, RESAMPLES, np.random.default_rng(seed))]
    )
    found: dict[str, dict[str, Floats]] = {}
    at = 0
    for name, mine in blocks.items():
        found[name] = {}
        for metric, block in zip(metrics(), mine, strict=True):
            part = sums[:, at : at + block.shape[1]]
            table = np.array([metric.scores(row[:-1], int(row[-1])) for row in part])
            found[name] |= dict(zip(metric.keys, table.T, strict=True))
            at += block.shape[1]
    changes = {f"{a}_vs_{b}": {key: found[a][key] - found[b][key] for key in found[a]} for a, b in pairs}
    return {
        "prompts": len(chosen),
        "of": len(known),
        "signatures": _signatures(),
        "models": _intervals(found, len(chosen)),
        "pairs": _intervals(changes, len(chosen)),
    }


def _by_prompt(
    metric: TextMetric, prompts: Sequence[Prompt], answers: Answers, chosen: Sequence[int]
) -> Floats:
    """The statistics of each chosen prompt's answers, summed, and how many these are: (prompts, k + 1)."""
    rows = [
        (at, answer.text, reference)
        for at, i in enumerate(chosen)
        for answer in answers[i]
        if (reference := _reference(prompts[i], answer))
    ]
    statistics = metric.statistics([text for _, text, _ in rows], [[reference] for *_, reference in rows])
    summed = np.zeros((len(chosen), statistics.shape[1] + 1))
    np.add.at(summed, [at for at, *_ in rows], np.column_stack([statistics, np.ones(len(rows))]))
    return summed


def _reference(prompt: Prompt, answer: Answer) -> str | None:
    return prompt.reference if answer.turn == 1 else prompt.follow_ups[answer.turn - 2].reference


def _intervals(found: Mapping[str, Mapping[str, Floats]], n: int) -> dict[str, dict[str, Any]]:
    """values: (1 + resamples,), what was measured first."""
    return {
        name: {
            key: {
                "value": float(values[0]),
                "low": float(np.quantile(values[1:], 0.025)),
                "high": float(np.quantile(values[1:], 0.975)),
                "n": n,
            }
            for key, values in rows.items()
        }
        for name, rows in found.items()
    }


def _signatures() -> dict[str, str]:
    """How sacrebleu names its own settings, for papers; it wants to have scored something first."""
    named = {}
    for name, metric in (("bleu", _bleu()), ("chrf", CHRF())):
        metric.corpus_score(["one"], [["one"]])
        named[name] = str(metric.get_signature())
    return named


def _bleu() -> BLEU:
    return BLEU(force=True)  # answers may well end in " ."; that is no mistake here


def _rouge_l(reference: str, text: str) -> float:
    """The F-measure of the longest common subsequence of words, as rouge_score's, but in milliseconds less.

    Bits of one integer are the places of the reference (Hyyrö 2004, Bit-parallel LCS-length computation
    revisited); rouge_score fills a table of the product of both lengths in Python, 0.1 s for 500 words.
    """
    wanted, found = tokenize(reference, None), tokenize(text, None)
    if not wanted or not found:
        return 0.0
    places: dict[str, int] = {}
    for at, word in enumerate(wanted):
        places[word] = places.get(word, 0) | 1 << at
    whole = (1 << len(wanted)) - 1
    row = whole
    for word in found:
        met = row & places.get(word, 0)
        row = (row + met) | (row - met)
    common = (~row & whole).bit_count()
    return 2.0 * common / (len(wanted) + len(found))


def _sacrebleu_statistics(
    metric: Any, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Floats:
    """What sacrebleu sums over answers before it computes a corpus score, as its own bootstrap does."""
    most = max(map(len, references))
    by_place = [[r[min(k, len(r) - 1)] for r in references] for k in range(most)]  # the last one fills up
    return np.array(metric._extract_corpus_statistics(list(predictions), by_place), dtype=np.float64)
