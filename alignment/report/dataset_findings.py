"""What a dataset's figures mean for whoever trains on it, in plain words, the gravest first."""

from __future__ import annotations

from typing import NamedTuple

from alignment.data.overview import Overview, repeats
from alignment.data.quality import Share
from alignment.report.page import Tone

FEW = 0.01  # a share that is worth a warning
MANY = 0.05


class Finding(NamedTuple):
    """One conclusion, with what it rests on."""

    text: str
    tone: Tone
    detail: str = ""


def findings(found: Overview, evaluation: str | None = None) -> list[Finding]:
    """The findings, bad ones first. Without any fault there is one that says so."""
    every = [
        _contamination(found, evaluation),
        _length_bias(found),
        _position_bias(found),
        _agreement(found),
        _personal(found),
        _completions(found),
        _duplicates(found),
        _languages(found),
    ]
    known = [finding for finding in every if finding is not None]
    order = ("bad", "unsure", "good", "plain")
    if not any(finding.tone in ("bad", "unsure") for finding in known):
        known.append(Finding("Nothing here speaks against training on this dataset.", "good"))
    return sorted(known, key=lambda finding: order.index(finding.tone))


def share(value: float) -> str:
    """A share in percent with one decimal: 0.848 is 84.8%."""
    return f"{100 * value:.1f}%"


def _interval(counted: Share) -> str:
    known = counted.as_dict()
    if known is None:
        return ""
    return f"95% interval {share(known['low'])} to {share(known['high'])}, {known['n']:,} pairs"


def _length_bias(found: Overview) -> Finding | None:
    known = found.statistics.longer_wins.as_dict()
    if known is None:
        return None
    counted = found.statistics
    whole, told = share(counted.longer_wins.hits / (counted.pairs + counted.ties)), share(known["value"])
    apart = "" if whole == told else f" ({told} where one was preferred and the lengths differ)"
    text = f"The longer completion is preferred in {whole} of all comparisons{apart}"
    detail = f"{_interval(found.statistics.longer_wins).capitalize()} of unequal length."
    if known["low"] > 0.6:
        control = "Control for length: match lengths, add a penalty, or hold a length baseline beside it."
        return Finding(f"{text}: a reward model trained on it learns length.", "bad", f"{detail} {control}")
    if known["low"] > 0.5 or known["high"] < 0.5:
        side = "longer" if known["low"] > 0.5 else "shorter"
        return Finding(f"{text}: a slight lean to the {side} one.", "unsure", detail)
    return Finding(f"{text}: no bias for length shows.", "good", detail)


def _position_bias(found: Overview) -> Finding | None:
    counted = found.statistics.first_shown_wins
    known = counted.as_dict()
    if known is None:
        return None
    text = f"The completion shown first is preferred in {share(known['value'])} of the pairs"
    if known["low"] > 0.5 or known["high"] < 0.5:
        far = known["low"] > 0.6 or known["high"] < 0.4
        advice = "Show each pair in both orders, or in a random one."
        return Finding(
            f"{text}: judges lean to a place.", "bad" if far else "unsure", f"{_interval(counted)}. {advice}"
        )
    return Finding(f"{text}: no bias for the place shows.", "good", f"{_interval(counted)}.")


def _agreement(found: Overview) -> Finding | None:
    counted = found.statistics.agreement
    known = counted.as_dict()
    if known is None:
        if not found.statistics.pairs:
            return None
        return Finding("No pair was judged twice: how far judges agree cannot be told.", "plain")
    alpha = found.labels.alpha
    chance = "" if alpha is None else f" Krippendorff's alpha, which takes off chance: {alpha:.2f}."
    text = f"Two judges of the same pair agree in {share(known['value'])} of the cases"
    if alpha is not None and alpha < 0.2:
        return Finding(f"{text}, little more than by chance.", "bad", f"{_interval(counted)}.{chance}")
    tone: Tone = "plain" if alpha is None else "good" if alpha >= 0.6 else "unsure"
    return Finding(
        f"{text}.", tone, f"{_interval(counted)}.{chance} No reward model can be surer than they are."
    )


def _contamination(found: Overview, evaluation: str | None) -> Finding | None:
    if evaluation is None:
        return None
    if not found.contaminated:
        return Finding(f"No row shares 13 words in a row with a prompt of {evaluation}.", "good")
    part = share(found.contaminated / found.statistics.rows)
    return Finding(
        f"{found.contaminated:,} rows ({part}) hold prompts of {evaluation}: its figures will flatter.",
        "bad",
        "`alignkit data contamination TRAIN EVAL --out CLEAN.jsonl` writes the dataset without them.",
    )


def _personal(found: Overview) -> Finding | None:
    if not found.personal_rows:
        return None
    kinds: dict[str, int] = {}
    for (kind, _), count in found.personal.items():
        kinds[kind] = kinds.get(kind, 0) + count
    named = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    rows = f"{found.personal_rows:,} rows hold" if found.personal_rows > 1 else "1 row holds"
    return Finding(
        f"{rows} personal data or keys.",
        "bad" if "KEY" in kinds or "CARD" in kinds else "unsure",
        f"{named}. `alignkit data personal FILE --redact OUT.jsonl` writes a copy without them.",
    )


def _completions(found: Overview) -> Finding | None:
    total = found.statistics.completions
    if not total:
        return None
    grave = {
        fault: count / total
        for fault, count in found.faults.most_common()
        if count / total >= (MANY if fault == "refusal" else FEW)
    }
    if not grave:
        return None
    named = ", ".join(f"{fault}: {share(part)}" for fault, part in grave.items())
    return Finding(
        f"Some completions look faulty ({named}).",
        "bad" if max(grave.values()) >= MANY else "unsure",
        "`alignkit data completions FILE --list LIST.jsonl` names them.",
    )


def _duplicates(found: Overview) -> Finding | None:
    beyond = repeats(found.near)
    part = beyond / max(1, found.near_rows)
    same, rows = repeats(found.exact), found.statistics.rows
    if not beyond:
        return Finding("No prompt occurs twice, nor nearly so.", "good")
    if part < FEW:
        return None
    return Finding(
        f"{share(part)} of the rows repeat, or nearly repeat, the prompt of another.",
        "unsure",
        f"{same:,} of {rows:,} rows have a prompt that was there before, {beyond:,} one that is nearly "
        "the same. Wanted where a prompt is judged often; a split by prompt keeps exact repeats together.",
    )


def _languages(found: Overview) -> Finding | None:
    known = {c: n for c, n in found.prompt_languages.items() if " " not in c and c != "unsure"}
    total = sum(known.values())
    if total < 50:
        return None
    code, most = max(known.items(), key=lambda item: item[1])
    if most / total < 0.9:
        return Finding(
            f"Prompts are in several languages; {share(most / total)} are in the most frequent ({code}).",
            "plain",
            "A model is judged in each; look at them apart.",
        )
    return None
