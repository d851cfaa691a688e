"""The judges that a config names, and what each of them says of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.errors import UserError
from alignment.evaluation.answers import Answers, Prompt
from alignment.evaluation.judges import program_judge, reward_judge
from alignment.evaluation.verdict import Judged, compare
from alignment.stats.agreement import pairwise_agreement
from alignment.stats.position import position_bias

if TYPE_CHECKING:
    from alignment.evaluation.config import JudgeSection
    from alignment.evaluation.llm_judge import Ask

CHUNK = 32  # questions to a local model between two entries in the journal


@dataclass
class Opinion:
    """A judge and its verdicts by comparison (a_vs_b): those that could be read, and those that could not."""

    judge: Any
    judged: dict[str, list[Judged]]
    unread: dict[str, list[Judged]]


def make_judge(section: JudgeSection, prompts: Sequence[Prompt], journal: Path) -> Any:
    """The judge that a section names; an LLM's replies are kept in `journal`.

    Raises UserError if it cannot judge these prompts.
    """
    if section.kind == "reward":
        return reward_judge(str(section.path))
    if section.kind == "people":
        from alignment.evaluation.people import PeopleJudge

        return PeopleJudge(str(section.path))
    if section.kind == "llm":
        from alignment.evaluation.llm_judge import LlmJudge, load_template

        template = load_template(section.template)
        ask = _ask_service(section, journal) if section.url else _ask_here(section, journal)
        return LlmJudge(section.model or str(section.path), template, ask)
    mute = [p.id for p in prompts if not any(m["role"] == "user" for m in p.messages)]
    if mute:
        raise UserError(
            f"prompt {mute[0]} has no user message, in which judge.kind program reads the request"
        )
    return program_judge()


def opinion(
    judge: Any, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]], answers: dict[str, Answers]
) -> Opinion:
    """Every comparison judged. Raises UserError where no verdict at all could be read."""
    judged: dict[str, list[Judged]] = {}
    unread: dict[str, list[Judged]] = {}
    for a, b in pairs:
        rows = (
            judge.judged(a, b, prompts)
            if hasattr(judge, "judged")
            else compare(judge, prompts, (a, b), answers)
        )
        name = f"{a}_vs_{b}"
        judged[name] = [row for row in rows if row.outcome is not None]
        unread[name] = [row for row in rows if row.outcome is None]
        if not judged[name]:
            raise UserError(
                f"no reply of the judge {judge.name} on {name} holds a verdict: read them in the run's "
                "replies folder, and mend the template, or use another judge"
            )
    return Opinion(judge, judged, unread)


def conduct(judge: Any, seed: int) -> dict[str, Any]:
    """How an LLM judge behaved (replies asked and unread, verdicts that changed with the order, its bias by
    place, see stats/position.py), or how far people agree; {} where there is nothing to tell."""
    if hasattr(judge, "agreement"):
        return {"agreement": judge.agreement(seed)}
    if not hasattr(judge, "asked"):
        return {}
    found = {"asked": judge.asked, "unread": judge.unread, "changed_with_order": judge.changed}
    if judge.first_won:
        groups, values = zip(*judge.first_won, strict=True)
        found["position"] = position_bias(values, groups, seed=seed)._asdict()
    return found


def agreement_of(one: Sequence[Judged], other: Sequence[Judged], seed: int) -> dict[str, Any] | None:
    """How often two judges gave one verdict on the same answers; None where they share none.

    Of several verdicts on the same answers (people's) the majority counts, and half and half is a tie.
    """
    first, second = _majority(one), _majority(other)
    shared = [key for key in first if key in second]
    if not shared:
        return None
    groups = [prompt for prompt, _ in shared]
    return pairwise_agreement(
        [first[k] for k in shared], [second[k] for k in shared], groups, seed=seed
    )._asdict()


def _majority(judged: Sequence[Judged]) -> dict[tuple[int, int], float]:
    balance: dict[tuple[int, int], float] = {}
    for j in judged:
        balance[j.prompt, j.sample] = balance.get((j.prompt, j.sample), 0.0) + j.outcome - 0.5
    return {key: 0.5 + 0.5 * ((value > 0) - (value < 0)) for key, value in balance.items()}


def _ask_service(section: JudgeSection, path: Path) -> Ask:
    from alignment.backend.chat_api import ChatApi, Journal
    from alignment.backend.progress import Steps

    service = ChatApi(str(section.url), str(section.model), **section.api.model_dump())
    opened = cache(lambda: Journal(path))  # not before something is asked: it makes the run's folder

    def ask(questions: list[list[dict[str, str]]]) -> list[str]:
        journal = opened()
        with Steps(f"judge: {section.model}", len(questions)) as steps:
            count = 0

            def advance(more: int) -> None:
                nonlocal count
                count += more
                steps.update(count)

            replies = service.ask(
                questions, journal, advance, temperature=0.0, max_tokens=section.max_new_tokens
            )
        return [row[0].text for row in replies]

    return ask


def _ask_here(section: JudgeSection, path: Path) -> Ask:
    from alignment.backend.chat_api import Journal, Reply, question_key
    from alignment.backend.config import ModelSection
    from alignment.backend.generation import GenerationSection, generate
    from alignment.backend.models import load_policy, load_tokenizer
    from alignment.backend.progress import Steps

    opened = cache(lambda: Journal(path))
    settings = GenerationSection(max_new_tokens=section.max_new_tokens, temperature=0.0)
    tokenizer, loaded = load_tokenizer(str(section.path)), list[Any]()

    def ask(questions: list[list[dict[str, str]]]) -> list[str]:
        journal = opened()
        keys = [question_key(section.path, section.max_new_tokens, question) for question in questions]
        missing = {k: q for k, q in zip(keys, questions, strict=True) if journal.get(k) is None}
        order = sorted(missing, key=lambda k: sum(len(m["content"]) for m in missing[k]))
        with Steps(f"judge: {section.path}", len(order)) as steps:
            for start in range(0, len(order), CHUNK):
                if not loaded:
                    loaded.append(load_policy(ModelSection(path=str(section.path)), trainable=False))
                chunk = order[start : start + CHUNK]
                rows = generate(loaded[0], tokenizer, [missing[k] for k in chunk], settings)
                for key, (got,) in zip(chunk, rows, strict=True):
                    journal.put(key, Reply(got.text, got.finished, 0.0))
                steps.update(start + len(chunk))
        return [reply.text for key in keys if (reply := journal.get(key)) is not None]

    return ask
