"""Whether an evaluation is worse than a stored one, with a tolerance: what a nightly job or a merge asks.

Both runs asked the same prompts of the same judges. Each figure is the new run's less the stored one's on the
prompts that both have, with a 95% interval over prompts. It is

    worse        if the whole interval, widened for the number of figures, lies below minus the margin
    no worse     if the whole interval lies above minus the margin
    undecided    otherwise: so many prompts cannot tell

One figure that is worse makes the run worse, so each must err more rarely (Bonferroni). For a run to be no
worse all figures must be, and a test that all must pass errs no more often than each of them (Berger 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alignment.data.refusals import is_refusal
from alignment.errors import UserError
from alignment.evaluation.standings import differences, mean_by_prompt, shared_pairs
from alignment.evaluation.stored import Spoken, Stored, read_judges, read_texts, same_answers
from alignment.stats import Interval, paired_difference, wider_for_few

if TYPE_CHECKING:
    from alignment.evaluation.probe_rows import Measured

FORMAT = 1
WORSE = 3  # the exit code of `alignkit evaluate drift`
FEW = 100  # prompts, below which bootstrap intervals are too narrow to lean on
LEAST = 20  # prompts, below which nothing is decided

ByPrompt = dict[str, float]


class Paired(NamedTuple):
    """One figure before its interval: by prompt, in the stored run and in the new one."""

    what: str
    kind: str
    judge: str | None
    before: ByPrompt
    after: ByPrompt


def drift(
    baseline: Stored,
    new: Stored,
    names: tuple[str, str] | None = None,
    *,
    margin: float = 0.0,
    strict: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """The new run against the stored one.

    names: the comparison of each run to set side by side, where they are called differently. margin: the fall
    that is let pass, as a share (0.02: two points of win rate or accuracy). strict: what is undecided fails
    too. The result:

    {format, baseline, new, margin, level, verdict {state, text, detail, tone, exit_code}, figures [{what,
    kind, judge, before, after, difference {value, low, high, n}, widened {the same at `level`}, state}],
    beside [the same without widened and state], prompts {common, only_baseline, only_new}, differs, warnings}

    Kinds: win_rate (against the other candidate), head_to_head (how often the new answer has the better score
    of the two, less one half; only with a judge that scores), probe (a share of its items of which more is
    better). Beside them, as they have no good direction or scale: score, words, refusals, empty, perplexity
    (nats a token, or a byte where the tokens are others, the mean over documents).
    Raises UserError where the judge is another one, or the runs have
    no comparison or no prompt in common.
    """
    if baseline.judge != new.judge:
        raise UserError(
            f"the judge of {baseline.folder} is {baseline.judge}, that of {new.folder} is {new.judge}: "
            "evaluate again with the same one, for a change might be the judge's"
        )
    pairs = shared_pairs(baseline, new, names)
    said = read_judges(baseline), read_judges(new)
    shared = [judge for judge in said[0] if judge in said[1]]
    tested = _tested(baseline, new, pairs)
    judged = [
        one for judge in shared for one in _of_judge(judge, pairs, tested, said[0][judge], said[1][judge])
    ]
    asked = [set(run.keys.values()) or _judged_prompts(run) for run in (baseline, new)]
    probed, other = _of_probes(baseline, new, tested)
    if not judged:
        raise UserError(f"{baseline.folder} and {new.folder} have no prompt in common")
    scores = [one for judge in shared for one in _scores(judge, tested, said[0][judge], said[1][judge])]
    figures = decided([*judged, *probed], margin, seed=seed)
    beside = [_figure(one, 0.95, seed) for one in [*scores, *_of_texts(baseline, new, tested), *other]]
    counts = {
        "common": len(asked[0] & asked[1]),
        "only_baseline": len(asked[0] - asked[1]),
        "only_new": len(asked[1] - asked[0]),
    }
    verdict = _verdict(figures, margin, strict)
    if not any(figure["difference"]["value"] for figure in figures) and same_answers(baseline, new, tested):
        verdict["text"] = _same(verdict["state"], margin, counts["common"])
    result = {
        "format": FORMAT,
        "baseline": baseline.folder,
        "new": new.folder,
        "margin": margin,
        "level": _level(len(figures)),
        "verdict": verdict,
        "figures": figures,
        "beside": beside,
        "prompts": counts,
        "differs": differences(baseline, new),
        "warnings": [],
    }
    result["warnings"] = _warnings(result, said)
    return result


def decided(pairs: Sequence[Paired], margin: float, *, seed: int = 0) -> list[dict[str, Any]]:
    """The figures of one run against another, as `drift` gives them."""
    level = _level(len(pairs))
    figures = []
    for one in pairs:
        figure = _figure(one, 0.95, seed)
        plain = _cautious(figure["difference"], one, 0.95)
        widened = _cautious(_figure(one, level, seed)["difference"], one, level)
        state = state_of(plain, widened, margin)
        figures.append({**figure, "difference": plain, "widened": widened, "state": state})
    return figures


def _level(figures: int) -> float:
    return 1.0 - 0.05 / figures


def state_of(difference: dict[str, Any], widened: dict[str, Any], margin: float) -> str:
    """worse, no worse or undecided, for the intervals of a difference of which more is better."""
    if difference["n"] < LEAST:
        return "undecided"
    if widened["high"] < -margin:
        return "worse"
    return "no worse" if difference["low"] >= -margin else "undecided"


def _tested(baseline: Stored, new: Stored, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The candidates that the comparisons are about: (name in the stored run, in the new one), each once."""
    return list(dict.fromkeys((baseline.comparisons[one].a, new.comparisons[two].a) for one, two in pairs))


def _of_judge(
    judge: str,
    pairs: Sequence[tuple[str, str]],
    tested: Sequence[tuple[str, str]],
    before: Spoken,
    after: Spoken,
) -> list[Paired]:
    """Win rates of one judge, and how the new answers fare against the stored ones by its scores."""
    found = []
    for first, second in pairs:
        if first in before.comparisons and second in after.comparisons:
            means = (
                mean_by_prompt(side.comparisons[name]) for side, name in ((before, first), (after, second))
            )
            found.append(Paired(_title(second), "win_rate", judge, *means))
    for old, name in tested:
        mine, theirs = _scores_of(after, name), _scores_of(before, old)
        met = {key: _won(mine[key], theirs[key]) for key in mine.keys() & theirs.keys()}
        if met:
            what = f"{name}, new answers against stored ones"
            found.append(Paired(what, "head_to_head", judge, dict.fromkeys(met, 0.5), met))
    return [one for one in found if one.before.keys() & one.after.keys()]


def _won(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The share of the answers of one prompt, paired by their number, that score higher; a tie is half."""
    return float(np.mean([0.5 + 0.5 * ((x > y) - (x < y)) for x, y in zip(mine, theirs, strict=False)]))


def _scores(judge: str, tested: Sequence[tuple[str, str]], before: Spoken, after: Spoken) -> list[Paired]:
    found = []
    for old, name in tested:
        means = [
            {key: float(np.mean(values)) for key, values in _scores_of(side, one).items()}
            for side, one in ((before, old), (after, name))
        ]
        if means[0].keys() & means[1].keys():
            found.append(Paired(f"{name}, mean score", "score", judge, *means))
    return found


def _scores_of(said: Spoken, name: str) -> dict[str, list[float]]:
    return {key: values for (model, key), values in said.scores.items() if model == name}


def _of_texts(baseline: Stored, new: Stored, tested: Sequence[tuple[str, str]]) -> list[Paired]:
    """Length, refusals and empty answers of the candidates; [] where a run did not keep its completions."""
    try:
        traits = [_traits(run, {pair[side] for pair in tested}) for side, run in enumerate((baseline, new))]
    except UserError:
        return []
    kinds = {"words": "words an answer", "refusals": "refusals", "empty": "empty answers"}
    found = []
    for old, name in tested:
        for number, (kind, what) in enumerate(kinds.items()):
            sides = [
                {key: values[number] for (model, key), values in side.items() if model == one}
                for side, one in zip(traits, (old, name), strict=True)
            ]
            if sides[0].keys() & sides[1].keys():
                found.append(Paired(f"{name}, {what}", kind, None, *sides))
    return found


def _traits(run: Stored, names: set[str]) -> dict[tuple[str, str], list[float]]:
    """(model, prompt's key) -> mean words, share of refusals, share of empty answers."""
    found = {}
    for key, answers in read_texts(run):
        for name in names & answers.keys():
            said = [one.text for one in answers[name]]
            totals = (
                sum(len(text.split()) for text in said),
                sum(map(is_refusal, said)),
                sum(not text.strip() for text in said),
            )
            found[name, key] = [total / len(said) for total in totals]
    return found


def _of_probes(
    baseline: Stored, new: Stored, tested: Sequence[tuple[str, str]]
) -> tuple[list[Paired], list[Paired]]:
    """The shares of probes that both runs have, turned so that more is better, and perplexities."""
    if not all((Path(run.folder) / "probes").is_dir() for run in (baseline, new)):
        return [], []
    from alignment.evaluation.probe_rows import read_measured

    runs = [read_measured(Path(run.folder)) for run in (baseline, new)]
    shares, other = [], []
    for probe, (old, name) in product(sorted(runs[0].keys() & runs[1].keys()), tested):
        read = [(run[probe], one) for run, one in zip(runs, (old, name), strict=True)]
        per_byte = _other_tokens(*(measured.rows.get(one, []) for measured, one in read))
        sides = [_by_item(measured, one, per_byte) for measured, one in read]
        for what in (one for one in sides[0] if one in sides[1]):  # in an order that stays
            found = Paired(f"{name}, {probe}: {what}", "probe", None, sides[0][what], sides[1][what])
            if found.before.keys().isdisjoint(found.after):
                continue
            if runs[0][probe].settings["kind"] == "perplexity":
                other.append(found._replace(kind="perplexity"))
            else:
                shares.append(found)
    return shares, other


def _other_tokens(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether the models read a document as different tokens: likelihoods a token cannot be compared then."""
    counts = {row["item"]: row.get("tokens") for row in before}
    return any(counts.get(row["item"], row.get("tokens")) != row.get("tokens") for row in after)


def _by_item(probe: Measured, name: str, per_byte: bool) -> dict[str, ByPrompt]:
    """What a probe says of a model, item by item, by figure; nothing for kinds that have no such figure."""
    from alignment.evaluation.probe_figures import scores_of
    from alignment.evaluation.safety_figures import METRICS

    kind, rows = probe.settings["kind"], probe.rows.get(name)
    names = {"choices": "right answers", "exact_match": "exact matches", "perplexity": "nats a token"}
    names |= {"perplexity": "nats a byte"} if per_byte else {}
    if rows and kind in names:
        scores = scores_of(probe.settings, rows, per_byte)
        values = (scores.parts / scores.wholes).tolist()
        return {names[kind]: dict(zip(scores.items, values, strict=True))}
    found = {}
    for metric in METRICS[kind](rows).values() if rows and kind in METRICS else ():
        if metric.better == "higher":
            found[metric.what] = dict(zip(metric.items, metric.parts.tolist(), strict=True))
        elif metric.better == "lower":
            turned = metric.what.replace("refused", "not refused")
            found[turned] = dict(zip(metric.items, (1.0 - metric.parts).tolist(), strict=True))
    return found


def _figure(one: Paired, level: float, seed: int) -> dict[str, Any]:
    common = sorted(one.before.keys() & one.after.keys())
    before, after = ([side[key] for key in common] for side in (one.before, one.after))
    change: Interval = paired_difference(after, before, level=level, seed=seed)
    return {
        "what": one.what,
        "kind": one.kind,
        "judge": one.judge,
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "difference": change._asdict(),
    }


def _cautious(change: dict[str, Any], one: Paired, level: float) -> dict[str, Any]:
    """The interval of a difference of shares, wider where next to nothing changed."""
    differences = np.array([one.after[key] - one.before[key] for key in one.before.keys() & one.after.keys()])
    worse, better = int((differences < -1e-9).sum()), int((differences > 1e-9).sum())
    return wider_for_few(Interval(**change), worse, better, level=level)._asdict()


def _verdict(figures: Sequence[dict[str, Any]], margin: float, strict: bool) -> dict[str, Any]:
    """The sentence that is read first, and the exit code."""
    states = [figure["state"] for figure in figures]
    state = next(s for s in ("worse", "undecided", "no worse") if s in states)
    named = min((f for f in figures if f["state"] == state), key=lambda f: float(f["difference"]["low"]))
    tolerated = f"the margin of {100 * margin:g} points"
    judge = f" ({brief(named['judge'])})" if named["judge"] else ""
    said = f"{named['what']}{judge}: {in_points(named['difference'])}"
    others = states.count(state) - 1
    more = f"; {others} more" if others else ""
    if state == "worse":
        text = f"Worse by more than {tolerated}: {said}{more}."
    elif state == "no worse":
        text = f"No worse within {tolerated}; nearest to it is {said}."
    else:
        text = f"Not shown to be worse, but a fall beyond {tolerated} is not ruled out: {said}{more}."
    tones = {"worse": "bad", "undecided": "unsure", "no worse": "good"}
    failed = state == "worse" or (strict and state == "undecided")
    prompts = min(f["difference"]["n"] for f in figures)
    return {
        "state": state,
        "text": text,
        "detail": f"{len(figures)} figures, each on {prompts:,} common prompts or items at least.",
        "tone": tones[state],
        "exit_code": WORSE if failed else 0,
    }


def brief(judge: str) -> str:
    """A judge's name for a headline or a plot: of one that is a folder, the last two parts of its path."""
    kind, _, path = judge.partition("/")
    parts = path.split("/")
    return f"{kind}…/{'/'.join(parts[-2:])}" if len(parts) > 2 else judge


def _same(state: str, margin: float, prompts: int) -> str:
    """The verdict on runs whose tested candidates said the same, which no interval has to tell."""
    rest = (
        ""
        if state == "no worse"
        else f"; so few do not rule out a fall beyond {100 * margin:g} points on others"
    )
    return f"The same answers in both runs on all {prompts:,} common prompts: nothing changed{rest}."


def in_points(change: dict[str, Any]) -> str:
    """A difference of shares in words: "+1.0 points (−2.0 to +4.0)"."""
    value, low, high = (f"{100 * change[key]:+.1f}".replace("-", "−") for key in ("value", "low", "high"))
    return f"{value} points ({low} to {high})"


def _warnings(result: dict[str, Any], said: tuple[dict[str, Spoken], dict[str, Spoken]]) -> list[str]:
    found = []
    counts = result["prompts"]
    least = min(figure["difference"]["n"] for figure in result["figures"])
    if least < LEAST:
        found.append(f"A figure has only {least} prompts or items; below {LEAST} nothing is decided.")
    elif least < FEW:
        found.append(f"A figure has only {least} prompts or items: intervals of so few are too narrow.")
    left = counts["only_baseline"] + counts["only_new"]
    if left:
        found.append(f"{left:,} prompts are in one of the two runs only and count nowhere.")
    for one, run in zip(said, ("stored", "new"), strict=True):
        alone = [judge for judge in one if judge not in said[0] or judge not in said[1]]
        if alone:
            found.append(f"Only the {run} run has the judge {', '.join(alone)}, which counts nowhere.")
    keys = [d["what"] for d in result["differs"] if d["what"].split(".")[0] not in ("report", "models")]
    if keys:
        found.append(f"The configurations differ in {', '.join(keys)}: the change may come from there.")
    return found


def _judged_prompts(run: Stored) -> set[str]:
    return {key for outcomes in run.comparisons.values() for key in outcomes.prompts}


def _title(name: str) -> str:
    return name.replace("_vs_", " against ")
