"""Items of safety and bias probes, from the files that the sets are published as; the user brings them.

    xstest       prompt, type, label (safe or unsafe)              xstest_prompts.csv
    bbq          context, question, ans0, ans1, ans2, label, …     BBQ's data/*.jsonl, and beside them its
                 category, example_id, target_loc                  additional_metadata.csv, if at hand
    crows_pairs  sent_more, sent_less, bias_type                   crows_pairs_anonymized.csv
    truthfulqa   question, mc1_targets, mc2_targets                mc_task.json, or the hub's form of it
                 Question, Best Answer, Correct Answers, …         TruthfulQA.csv

BBQ's metadata say of every item which answer follows the stereotype; without them it is told from the groups.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignment.errors import UserError
from alignment.evaluation.probe_items import item_id, rows_of

SAFETY = ("xstest", "bbq", "crows_pairs", "truthfulqa")
# How BBQ words its third answer. Source: UNKNOWN in nyu-mll/BBQ, analysis_scripts.
UNKNOWN = frozenset(
    "unknown|cannot be determined|can't be determined|not answerable|not known|not enough info|"
    "not enough information|cannot answer|can't answer|undetermined".split("|")
)


@dataclass(frozen=True)
class SafetyItem:
    """One item.

    id: a hash of its content; text: what is asked ("" for whole sentences); choices: the texts whose
    likelihoods are compared; facts: what its figures need besides, written into every row; context: what is
    told before the question.
    """

    id: str
    text: str
    choices: tuple[str, ...]
    facts: dict[str, Any]
    context: str = ""


def read_safety(
    kind: str, files: Sequence[str], most: int | None, where: str
) -> tuple[list[SafetyItem], int]:
    """The first `most` different items of the files, and how many repeated ones were passed over.

    where: the config's key, for errors. Raises UserError for a row that is not of the kind, naming file and
    line, and for files without an item.
    """
    rows = list(rows_of(files))
    targets: dict[tuple[str, str], int] = {}
    if kind == "bbq":
        rows, targets = _without_metadata(rows)
    items: dict[str, SafetyItem] = {}
    repeated = 0
    for place, row in rows:
        item = _bbq(row, place, targets) if kind == "bbq" else _READERS[kind](row, place)
        repeated += item.id in items
        items.setdefault(item.id, item)
        if most is not None and len(items) == most:
            break
    if not items:
        raise UserError(f"{where}: {', '.join(files)} holds no item")
    return list(items.values()), repeated


def _xstest(row: dict[str, Any], place: str) -> SafetyItem:
    """Unsafe are the prompts so labelled; in the first version of the set, without labels, the contrasts."""
    prompt, kind = _text(row, "prompt", place), str(row.get("type") or "")
    label = str(row.get("label") or ("unsafe" if kind.startswith("contrast") else "safe" if kind else ""))
    if label not in ("safe", "unsafe"):
        raise UserError(f'{place}: label is "safe" or "unsafe", not {label!r}')
    return SafetyItem(item_id(prompt, label), prompt, (), {"question": prompt, "type": kind, "label": label})


def _without_metadata(
    rows: list[tuple[str, Any]],
) -> tuple[list[tuple[str, Any]], dict[tuple[str, str], int]]:
    """BBQ's items alone, and what additional_metadata.csv says of them: (category, example) -> target_loc."""
    targets = {}
    for _, row in rows:
        if "target_loc" in row and str(row["target_loc"]).strip() in ("0", "1", "2", "0.0", "1.0", "2.0"):
            targets[str(row.get("category")), str(row.get("example_id"))] = int(float(row["target_loc"]))
    return [(place, row) for place, row in rows if "context" in row], targets


def _bbq(row: dict[str, Any], place: str, targets: dict[tuple[str, str], int]) -> SafetyItem:
    context, question = _text(row, "context", place), _text(row, "question", place)
    answers = tuple(_text(row, f"ans{i}", place) for i in range(3))
    condition, polarity = row.get("context_condition"), row.get("question_polarity")
    if condition not in ("ambig", "disambig") or polarity not in ("neg", "nonneg"):
        raise UserError(
            f"{place}: context_condition is ambig or disambig and question_polarity neg or nonneg, not "
            f"{condition!r} and {polarity!r}"
        )
    label = row.get("label")
    if label not in (0, 1, 2):
        raise UserError(f"{place}: label is the number of the right answer, 0 to 2, not {label!r}")
    unknown = [i for i, answer in enumerate(answers) if _is_unknown(row, i, answer)]
    if len(unknown) != 1:
        raise UserError(
            f"{place}: one of the three answers says that it is not known, here {len(unknown)} do"
        )
    named = targets.get((str(row.get("category")), str(row.get("example_id"))))
    biased = named if named not in (None, unknown[0]) else _biased(row, unknown[0], polarity)
    facts = {
        "category": str(row.get("category")),
        "condition": condition,
        "question": f"{context} {question}",
        "choices": list(answers),
        "correct": label,
        "unknown": unknown[0],
        "biased": biased,
    }
    return SafetyItem(
        item_id(context, question, *answers, condition, str(label)), question, answers, facts, context
    )


def _is_unknown(row: dict[str, Any], i: int, answer: str) -> bool:
    told = (row.get("answer_info") or {}).get(f"ans{i}") or [None]
    return told[-1] == "unknown" or answer.strip().rstrip(".").casefold() in UNKNOWN


def _biased(row: dict[str, Any], unknown: int, polarity: str) -> int | None:
    """The answer that follows the stereotype, where BBQ's own list of targets is not at hand.

    The stereotyped group in a negative question, the other one in a question that is not negative; None
    where not exactly one of the two answers is of a stereotyped group, as where groups cross.
    """
    groups = {
        str(g).casefold() for g in (row.get("additional_metadata") or {}).get("stereotyped_groups") or ()
    }
    known = [i for i in range(3) if i != unknown]
    told = [i for i in known if _groups(row, i) & groups]
    if len(told) != 1:
        return None
    return told[0] if polarity == "neg" else next(i for i in known if i != told[0])


def _groups(row: dict[str, Any], i: int) -> set[str]:
    """The groups of an answer by BBQ's answer_info, in small letters: "F-Black" is f, black and f-black."""
    found = set()
    for told in (row.get("answer_info") or {}).get(f"ans{i}") or ():
        text = str(told).casefold()
        parts = re.split(r"[-_ ]", text)
        found |= {text, *parts}
        found |= {"f"} if {"woman", "girl"} & set(parts) else {"m"} if {"man", "boy"} & set(parts) else set()
        found |= {"low ses"} if "lowses" in parts else {"high ses"} if "highses" in parts else set()
    return found


def _crows(row: dict[str, Any], place: str) -> SafetyItem:
    more, less = _text(row, "sent_more", place), _text(row, "sent_less", place)
    facts = {"type": str(row.get("bias_type") or ""), "more": more, "less": less}
    return SafetyItem(item_id(more, less), "", (more, less), facts)


def _truthfulqa(row: dict[str, Any], place: str) -> SafetyItem:
    """choices: all answers once; mc1, mc2: the numbers of those of each task, the true ones apart."""
    question = _text(row, "question" if "question" in row else "Question", place)
    if "mc1_targets" in row:
        one, two = (_targets(row, key, place) for key in ("mc1_targets", "mc2_targets"))
    else:
        true, false = (_listed(row, key, place) for key in ("Correct Answers", "Incorrect Answers"))
        best = _text(row, "Best Answer", place).strip()  # as the listed ones, or it would count twice
        one = {best: True} | dict.fromkeys(false, False)
        two = dict.fromkeys([best, *true], True) | dict.fromkeys(false, False)
    for task in (one, two):
        if len(set(task.values())) != 2:
            raise UserError(f"{place}: there is not both a true and a false answer")
    if sum(one.values()) != 1:
        raise UserError(f"{place}: of mc1_targets exactly one is true, here {sum(one.values())} are")
    choices = list(dict.fromkeys([*one, *two]))
    tasks = {
        name: {"true": [choices.index(c) for c in task if task[c]],
               "false": [choices.index(c) for c in task if not task[c]]}
        for name, task in (("mc1", one), ("mc2", two))
    }  # fmt: skip
    facts = {"question": question, "choices": choices, "type": str(row.get("Category") or ""), **tasks}
    return SafetyItem(item_id(question, *choices), question, tuple(choices), facts)


def _targets(row: dict[str, Any], key: str, place: str) -> dict[str, bool]:
    """{answer: whether it is true}, of {"choices": […], "labels": […]} or {answer: 0 or 1}."""
    told = row.get(key)
    if isinstance(told, dict) and isinstance(told.get("choices"), list):
        return {
            str(c): bool(label) for c, label in zip(told["choices"], told.get("labels", ()), strict=False)
        }
    if isinstance(told, dict) and told:
        return {str(answer): bool(label) for answer, label in told.items()}
    raise UserError(f"{place}: {key} holds answers with labels of 0 and 1")


def _listed(row: dict[str, Any], key: str, place: str) -> list[str]:
    return [answer.strip() for answer in _text(row, key, place).split(";") if answer.strip()]


def _text(row: dict[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{place}: {key} is missing or empty")
    return value


_READERS = {"xstest": _xstest, "crows_pairs": _crows, "truthfulqa": _truthfulqa}
