"""What the exports of annotation tools share: which field is the prompt, which answer names which reply."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from alignment.data.formats import foreign
from alignment.data.formats.foreign import Row
from alignment.data.records import Comparison, Completion, Judgment, Message, Source, explain, shown
from alignment.errors import UserError

_WHO = r"((ai|model|llm|bot|assistant|generated|candidate|system|human|reference)[-_ ]?)?"
_REPLY = "response|completion|answer|output|reply|generation|candidate|continuation|summary|option|result"
COMPLETION = re.compile(rf"{_WHO}({_REPLY}|chosen|rejected)([-_ ]?(\d+|[a-d]|one|two))?|text[-_ ]?(\d+|[ab])")
PROMPT = re.compile(
    r"(user[-_ ]?|input[-_ ]?)?(prompt|instruction|question|query|context|input|message)s?"
    r"|(chat|conversation|dialog|dialogue|history|messages|user|system)(_?prompt|_?history)?"
)
RATIONALE = re.compile(r"rational|reason|explan|comment|why|justif|feedback|critique|note", re.IGNORECASE)
CORRECTION = re.compile(
    rf"correct(ed|ion)|improved|rewrit|edited|(better|new|final|best|ideal|own)[-_ ]?({_REPLY})"
    rf"|^{_WHO}({_REPLY})$",
    re.IGNORECASE,
)
BEST = re.compile(r"best|choose|choice|winner|pick|prefer|better|select|compar", re.IGNORECASE)
_TURNS = [(role, content) for role in ("role", "author", "speaker") for content in ("content", "text")]
_FURTHER = ("name", "parts", "tool_calls", "tool_call_id", "weight")
_SPEAKERS = {"human": "user", "customer": "user"}
_SPEAKERS |= dict.fromkeys(("ai", "agent", "bot", "chatbot", "gpt", "model"), "assistant")
_CROSSED = re.compile(r"[<>=]|\b(worse|worst|not|less|than|over)\b", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+|\d+")
_TIE = [
    "tie",
    "tied",
    "equal",
    "equally good",
    "same",
    "similar",
    "draw",
    "both",
    "both good",
    "both are good",
]
_BAD = [
    "neither",
    "neither is good",
    "none",
    "both bad",
    "bothbad",
    "both are bad",
    "all bad",
    "tie both bad",
]
_GOOD_LABELS = {"good": True, "accept": True, "accepted": True, "thumbs up": True, "bad": False}
_GOOD_LABELS |= {"reject": False, "rejected": False, "thumbs down": False}
_POSITIONS = (
    {"left", "a", "1", "first", "one"},
    {"right", "b", "2", "second", "two"},
    {"c", "3", "third"},
    {"d", "4"},
)


class Fields(NamedTuple):
    """Which fields are the prompt, in order, and which are replies to it."""

    prompt: list[str]
    completions: list[str]


def words(name: str) -> str:
    """A name in lower case, its words apart: "Response_1" and "response-1" are both "response 1"."""
    return " ".join(_WORD.findall(name.lower()))


def find_fields(fields: Row, named: set[str], where: str, apart: bool = False) -> Fields:
    """The prompt's and the replies' fields of a row, by the rules that the importers state.

    named: what the answers name; such a field is a reply, whatever it is called.
    apart: the replies are elsewhere, and none of the fields is one.
    Raises UserError where the fields do not say which is the prompt.
    """
    texts = [name for name, value in fields.items() if isinstance(value, str) or is_chat(value)]
    meant = {words(name) for name in named}
    replies = [name for name in texts if words(name) in meant or COMPLETION.fullmatch(name.lower())]
    replies = [] if apart else replies
    others = [name for name in texts if name not in replies]
    prompt = [name for name in others if PROMPT.fullmatch(name.lower())]
    if not prompt and len(others) == 1:
        prompt = others
    if not prompt and (others or not (replies or apart)):
        listed = ", ".join(f'"{shown(name)}"' for name in others or fields) or "none"
        raise UserError(
            f"{where}: which field is the prompt? The fields are {listed}; rename that one to "
            '"prompt", and replies to "response1", "response2", …'
        )
    return Fields(prompt, replies)


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns: {role, content}, or as Label Studio has them {author, text}."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return False
    return all(any(a in turn and b in turn for a, b in _TURNS) for turn in value)


def prompt_turns(fields: Row, names: list[str], where: str) -> list[Message]:
    """The prompt: system fields first, chats as they are, texts joined by empty lines into one user turn."""
    system, chats, asked = [], [], []
    for name in names:
        value = fields[name]
        if not isinstance(value, str):
            chats += chat_turns(value, f"{where}: {name}")
        elif words(name).startswith("system"):
            system.append(Message("system", value))
        else:
            asked.append(value)
    return [*system, *chats, *([Message("user", "\n\n".join(asked))] if asked else [])]


def chat_turns(value: Any, where: str) -> list[Message]:
    """A chat as messages. Raises UserError for a role that is not known."""
    turns = []
    for turn in value:
        role, content = next((a, b) for a, b in _TURNS if a in turn and b in turn)
        speaker = str(turn[role]).lower()
        rest = {key: turn[key] for key in _FURTHER if turn.get(key) is not None}
        turns.append({"role": _SPEAKERS.get(speaker, speaker), "content": turn[content] or "", **rest})
    try:
        return msgspec.convert(turns, list[Message])
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {explain(error, set(Message.__struct_fields__))}") from None


def completion_of(value: Any, where: str) -> Completion:
    """A text, or a chat, as a completion."""
    return Completion(content=value) if isinstance(value, str) else foreign.reply(chat_turns(value, where))


def field_value(turns: list[Message]) -> Any:
    """Turns as a field: the text of one plain turn, else a chat."""
    if len(turns) == 1 and turns[0] in (
        Message("user", turns[0].content),
        Message("assistant", turns[0].content),
    ):
        return turns[0].content
    return msgspec.to_builtins(turns)


def named_completion(value: Any, names: list[str]) -> int | None:
    """The index of the reply that an answer names: its name, else its number or letter; None for neither."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    meant = words(str(value))
    plain = [words(name) for name in names]
    if plain.count(meant) == 1:
        return plain.index(meant)
    # "A > B", "B is worse": read wrong, it would turn the judgment round. A long text names nothing.
    if _CROSSED.search(str(value)) or meant.count(" ") > 4:
        return None
    for ending in (meant, meant.split(" ")[-1] if meant else ""):
        ends = [index for index, name in enumerate(plain) if ending and name.split(" ")[-1] == ending]
        if len(ends) == 1:
            return ends[0]
    short = meant.removesuffix(" is better").split(" ")
    last = short[0] if len(short) == 1 or short[-1] == "better" else short[-1]
    for index, position in enumerate(_POSITIONS[: len(names)]):
        if last in position:
            return index
    return None


def mentioned_completion(question: str, names: list[str]) -> int | None:
    """The reply that a question is about, by its name or its number; the only reply; None if that is open."""
    if len(names) == 1:
        return 0
    asked = words(question)
    found = [index for index, name in enumerate(names) if re.search(rf"\b{re.escape(words(name))}\b", asked)]
    if len(found) == 1:
        return found[0]
    numbers = set(re.findall(r"\d+", asked))
    found = [index for index, name in enumerate(names) if set(re.findall(r"\d+", name)) & numbers]
    return found[0] if len(found) == 1 else None


def choose(judgment: Judgment, question: str, value: str | int, names: list[str]) -> bool:
    """Add to the judgment what a choice says; False where it is none between the replies, nor good or bad.

    A choice that names a reply prefers it to each of the others; one such as "tie" ties the two replies;
    one such as "neither" calls all of them bad; "good" and "bad" label the reply that the question is about.
    """
    said = words(str(value))
    about = mentioned_completion(question, names)
    if said in _GOOD_LABELS and about is not None:
        labels = list(judgment.labels or [None] * len(names))
        if labels[about] is not None:
            return False
        labels[about] = _GOOD_LABELS[said]
        judgment.labels = labels
        return True
    if len(names) < 2 or judgment.all_bad or judgment.comparisons is not None or judgment.ranks is not None:
        return False
    if said in _BAD and BEST.search(question):
        judgment.all_bad = True
        return True
    if said in _TIE and len(names) == 2 and BEST.search(question):
        judgment.ranks = [1, 1]
        return True
    exact = said in [words(name) for name in names]
    best = named_completion(value, names) if exact or BEST.search(question) else None
    if best is None:
        return False
    if len(names) == 2:
        judgment.ranks = [1 + (index != best) for index in range(2)]
    else:
        judgment.comparisons = [Comparison(best, other) for other in range(len(names)) if other != best]
    return True


def rate(judgment: Judgment, question: str, value: float, names: list[str]) -> bool:
    """Add a rating of the reply that the question is about; False where it does not say which.

    The rating's name is the question's without the reply: "quality-response-1" rates "quality".
    """
    about = mentioned_completion(question, names)
    if about is None:
        return False
    key = question if len(names) == 1 else _without(question, names[about])
    ratings = dict(judgment.ratings or {})
    values: list[float | None] = list(ratings.get(key, [None] * len(names)))
    if values[about] is not None:
        return False
    values[about] = float(value)
    judgment.ratings = {**ratings, key: values}
    return True


def _without(question: str, name: str) -> str:
    """The question's name without the reply's, or without its number."""
    number = "".join(re.findall(r"\d+$", name))
    for part in (
        re.escape(name),
        r"[-_ ]?".join(map(re.escape, words(name).split())),
        rf"(?<!\d){number}(?!\d)",
    ):
        rest, found = re.subn(rf"[-_ .]*{part}", "", question, count=1, flags=re.IGNORECASE)
        if part and found:
            return rest.strip("-_ .") or "rating"
    return question


def corrected(text: str, by: str | None) -> Completion:
    """A reply that an annotator wrote."""
    return Completion(content=text, source=Source("human", by))


def widen(judgment: Judgment, count: int) -> None:
    """Make the judgment's columns as long as there are completions: the further ones are not judged."""

    def wide(values: list[Any] | None) -> list[Any] | None:
        return None if values is None else [*values, *[None] * (count - len(values))]

    judgment.ranks, judgment.labels = wide(judgment.ranks), wide(judgment.labels)
    if judgment.ratings is not None:
        judgment.ratings = {key: wide(values) or [] for key, values in judgment.ratings.items()}
