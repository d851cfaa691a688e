"""What a reader of a report must know before relying on its verdict, one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignment.backend.runs import model_fingerprint
from alignment.evaluation.answers import is_file
from alignment.evaluation.probe_figures import warnings_of
from alignment.evaluation.safety_figures import safety_warnings
from alignment.evaluation.statistics import by_length, near_the_end

if TYPE_CHECKING:
    from alignment.evaluation.stage import Config

FEW_PROMPTS = 100
LEAST_KAPPA = 0.2  # below, two judges agree slightly at most (Landis and Koch 1977)


def cautions(report: dict[str, Any], config: Config) -> list[str]:
    """What a reader must know before trusting the verdict, one sentence each."""
    found = _of_trained_reward(report, config) + _other_minds(report)
    controls, n = report["controls"], report["prompts"]["n"]
    if n < FEW_PROMPTS:
        found.append(
            f"Only {n} prompts: intervals are wide, and bootstrap intervals of so few are too narrow."
        )
    if report["prompts"]["repeated"]:
        found.append(
            f"{report['prompts']['repeated']} repeated prompts were left out; each prompt counts once."
        )
    for name, fall in controls["log_likelihood"].items():
        if fall["flagged"]:
            found.append(
                f"The answers of {name} are {-fall['value']:.2f} nats a token less likely under "
                f"{config.base} than those of {fall['against']}: it may have left plain language to please "
                "the judge. Read the samples."
            )
    for a, b in config.pairs():
        name = f"{a}_vs_{b}"
        rate = report["win_rate"][name]
        shuffled = controls["shuffled_prompts"].get(name)
        if shuffled and rate["low"] > 0.5:
            found += _left_when_shuffled(a, b, rate, shuffled)
        figures = {**report["statistics"][name], "win_rate": rate}
        found += [told for told in (near_the_end(a, b, figures), by_length(a, b, figures)) if told]
        length = controls["length"][name]
        if rate["low"] > 0.5 and length["low"] > 0 and (length["longer_won"] or 0) >= 0.75:
            found.append(
                f"Length may explain the win of {a} over {b}: its answers are {length['value']:.1f} words "
                f"longer, and the longer answer won {100 * length['longer_won']:.0f}% of the time."
            )
    found += _contaminated(report)
    stages = report["stages"]
    cut = {name: 1.0 - (1.0 if (rate := f.get("eos_rate")) is None else rate) for name, f in stages.items()}
    if max(cut.values()) > 0.5:
        limit = f"generation.max_new_tokens is {config.generation.max_new_tokens}, raise it to see whole ones"
        if all(is_file(config.models[name]) for name, rate in cut.items() if rate > 0.5):
            limit = "make those files again with room for more tokens, to see whole ones"
        found.append(f"Many answers were cut off before their end ({_shares(cut, 0.5)}); {limit}.")
    empty = {name: f.get("empty_rate") or 0.0 for name, f in stages.items()}
    if max(empty.values()) > 0.0:
        found.append(f"Some answers are empty ({_shares(empty, 0.0)}).")
    looping = {name: f["repetitive"]["value"] for name, f in report["diversity"].items()}
    if max(looping.values()) > 0.05:
        found.append(f"Some answers say the same thing again and again ({_shares(looping, 0.05)}).")
    found += warnings_of(report["probes"]) + safety_warnings(report["safety"])
    found += _of_judges(report)
    chance = controls["reward_on_shuffled_labels"]
    real = report.get("reward_model", {}).get("accuracy")
    # Labels turned round by lot leave some signal by chance, and a model follows it.
    allowed = (real["value"] - 0.5) / 2 if real else 0.0
    if chance and not chance["low"] <= 0.5 <= chance["high"] and abs(chance["value"] - 0.5) > allowed:
        found.append(
            f"A reward model trained on shuffled labels reaches {chance['value']:.2f}, not one half: "
            "something besides the preference gives the label away."
        )
    return found


def _left_when_shuffled(a: str, b: str, rate: dict[str, Any], shuffled: dict[str, Any]) -> list[str]:
    """That most of a win, counted from one half, is left when answers are judged against other prompts."""
    real, other = rate["rate"], shuffled["rate"]
    percents = f"{100 * other:.0f}%, with the right prompts {100 * real:.0f}%"
    if other >= rate["low"]:
        often = "even more often" if other > real else "as often" if other == real else "almost as often"
        return [
            f"{a} beats {b} {often} when answers are judged against other prompts ({percents}): the win "
            "may have little to do with what was asked."
        ]
    if other - 0.5 > (real - 0.5) / 2 and shuffled["low"] > 0.5:
        return [
            f"Most of the win of {a} over {b} is left when answers are judged against other prompts "
            f"({percents}): only the rest has to do with what was asked."
        ]
    return []


def _contaminated(report: dict[str, Any]) -> list[str]:
    """Prompts and items of probes in the training data; those of which only a run of words is there share a
    template, mostly, and are told more calmly."""
    found, n = [], report["prompts"]["n"]
    for name, held in report["contamination"].items():
        whole, runs = held["whole"], held["prompts"] - held["whole"]
        is_ = "is" if whole == 1 else "are"
        if whole:
            ids = f"{', '.join(held['ids'][: min(whole, 5)])}{' …' if whole > 5 else ''}"
            more = f"; {runs} more share a run of 13 words with it" if runs else ""
            found.append(
                f"{whole} of {n} prompts {is_} in the data that {name} was trained on ({ids}){more}."
            )
    shared = [
        f"{name} {held['prompts']}"
        for name, held in report["contamination"].items()
        if held["prompts"] and not held["whole"]
    ]
    if shared:
        found.append(
            f"Some prompts share a run of 13 words with training data, as prompts of one template do (of "
            f"{n}: {', '.join(shared)}); no whole one is in the data of these models."
        )
    for name, held in report["contamination"].items():
        found += _unchecked(name, held)
    for probe, models in report["probe_contamination"].items():
        for name, held in models.items():
            whole, runs = held["whole"], held["prompts"] - held["whole"]
            is_ = "is" if whole == 1 else "are"
            if whole:
                more = f", and runs of 13 words of {runs} more" if runs else ""
                found.append(
                    f"Of the items of {probe}, {whole} {is_} in the data that {name} was trained on{more}: "
                    "what it does on them says little of what it knows."
                )
            elif runs:
                found.append(
                    f"Of the items of {probe}, none is in the data that {name} was trained on, and {runs} "
                    "share a run of 13 words with it."
                )
    return found


def _of_trained_reward(report: dict[str, Any], config: Config) -> list[str]:
    """Where the judge is the very reward that a candidate was trained to please."""
    if config.judge.kind != "reward" or config.judge.path is None:
        return []
    judge = model_fingerprint(config.judge.path)
    return [
        f"The judge is the reward that {name} was trained against: that it prefers {name} says how well the "
        "training pleased it, not that the answers are better. Ask another judge, or people."
        for name, run in report["lineage"].items()
        if judge is not None
        and run.get("stage") in ("ppo", "rloo", "grpo")
        and judge in [parent.get("fingerprint") for parent in run["parents"].values()]
    ]


def _other_minds(report: dict[str, Any]) -> list[str]:
    """Where the judge sees a difference, and another judge none, the reverse, or one of other answers."""
    found = []
    for other in report["other_judges"]:
        for name, its in other["win_rate"].items():
            rate, agreement = report["win_rate"][name], other["agreement_with_judge"][name]
            kappa = agreement["kappa"] if agreement else None
            decided = rate["low"] > 0.5 or rate["high"] < 0.5
            same = its["low"] > 0.5 if rate["rate"] > 0.5 else its["high"] < 0.5
            if decided and (not same or (kappa is not None and kappa < LEAST_KAPPA)):
                told = "" if kappa is None else f", kappa of the two {kappa:.2f}"
                found.append(
                    f"The judge {other['name']} does not bear out {name.replace('_vs_', ' against ')}: win "
                    f"rate {100 * its['rate']:.1f}%, 95% interval {100 * its['low']:.1f}% to "
                    f"{100 * its['high']:.1f}%{told}."
                )
    return found


def _unchecked(name: str, held: dict[str, Any]) -> list[str]:
    """What contamination says nothing of: data that is not here, or cannot be read."""
    unchecked = [*held.get("missing", ()), *held.get("unreadable", ())]
    if not unchecked:
        return []
    listed = ", ".join(unchecked[:5]) + (" …" if len(unchecked) > 5 else "")
    return [
        f"Whether {name} was trained on these prompts could not be checked in all its data; not here, or not "
        f"to be read: {listed}."
    ]


def _of_judges(report: dict[str, Any]) -> list[str]:
    """How judges behaved, where it matters for what they say."""
    found = []
    for judge in (report["judge"], *report["other_judges"]):
        name, position = judge["name"], judge.get("position")
        if position and position["always"]:
            found.append(
                f"The judge {name} always chose the answer shown {position['always']}: it looks at the "
                "place, not at the answers, and its verdict says nothing."
            )
        elif position and position["biased"]:
            found.append(
                f"The judge {name} chose the answer shown first {100 * position['value']:.0f}% of the time; "
                f"{judge['changed_with_order']} verdicts changed with the order and count as ties."
            )
        if judge.get("unread"):
            found.append(
                f"{judge['unread']} of {judge['asked']} replies of the judge {name} hold no verdict that "
                "could be read; their comparisons count nowhere."
            )
    return found


def _shares(rates: dict[str, float], above: float) -> str:
    return ", ".join(f"{name} {100 * rate:.1f}%" for name, rate in rates.items() if rate > above)
