"""The programmatic judge: reads the request in a prompt and scores a completion in [0, 1]. Pure Python.

It is a stated rule, not a reader of meaning. From the last user message it takes the *facts* asked for
(every content word left when the words of asking are removed: "Write a story about a fox named Ben." →
fox, ben) and the number of sentences, if one is named. The score is

    care · (0.60 · facts + 0.20 · sentences + 0.12 · length + 0.08 · variety),   care = copied · ended · loops

facts     share of the requested words that occur (inflections tolerated), scaled down when the text has
          fewer words than asked or reads as a list (few function words), so a bare list of facts earns little
sentences 1 for the requested number, less by 0.4 for each one off (1 when none was named and there is one)
length    words against MIN_WORDS a sentence, up to 1; above MAX_WORDS a sentence it falls again
variety   1 when at least VARIED of the first 40 words are distinct, less in proportion below that
copied    0.5 for each different 4-gram of the prompt found in the completion (an echo scores almost 0)
ended     1 when the text ends in . ! or ? (a closing quote may follow), else 0.6
loops     1 when at least UNLOOPED of the word trigrams are distinct; below that the ratio of the two, squared

Repetition costs where there is much of it and not before: among answers that do all that was asked,
the shorter one is not the better one. Such answers tie.
"""

from __future__ import annotations

import re
from typing import Any

WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
SENTENCE = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")
ENDED = re.compile(r"[.!?][\"')\]]*$")
NUMBERS = {w: i for i, w in enumerate("zero one two three four five six seven eight nine ten".split())}
COUNT = re.compile(rf"\b({'|'.join(NUMBERS)}|\d+|a single)(?: \w+)? sentences?\b")
MIN_WORDS = 6
MAX_WORDS = 24
GRAM = 4
VARIED = 0.6
UNLOOPED = 0.9

# Words of English that carry no request of their own.
FUNCTION = frozenset(
    (
        "a an the and or but if so as of to in on at by for from with without into onto over under near up "
        "down out off about after before then than that this these "
        "those there here it its he him his she her "
        "hers they them their we us our you your i me my mine is are was were be been being am do does did "
        "done has have had having will would can could should shall may might must not no nor very too also "
        "just only both each all any some one two three four five six seven eight nine ten who whom whose "
        "which what when where why how while because until again every other another such same own more most "
        "much many few little away back"
    ).split()
)
# Words of asking, in the phrasings that the quickstart uses and near ones.
ASKING = frozenset(
    (
        "write tell make give describe explain say use put include mention answer please story stories tale "
        "text words word sentence sentences short small simple long about named called name names finds find "
        "meets meet sees see gets get likes like loves love wants want goes go happens happen something "
        "someone let lets us keep begin single line lines need needs must exactly lives live has have looks "
        "look day thing things person place together know child "
        "children new start end ends happy ending nice "
        "good exact main part talk speak"
    ).split()
)


def _stem(word: str) -> str:
    """A crude stem: 's, plural, -ed, -ing and a final e or y are cut; 'boxes' and 'box' meet."""
    word = word.removesuffix("'s").replace("'", "")
    for ending in ("ing", "ied", "ies", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    for ending in ("ie", "xe", "e", "y"):  # cookie(s) and cook(ed) differ enough not to matter
        if word.endswith(ending) and len(word) >= 4:
            word = word[: -len(ending)] + ("x" if ending == "xe" else "")
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def words_of(text: str) -> list[str]:
    """Lower-case words of the text, in order."""
    return WORD.findall(text.lower().replace("’", "'"))


def request(prompt: list[dict[str, Any]]) -> tuple[list[str], int | None]:
    """(facts, sentences) that the last user message asks for; sentences is None when no number is named.

    Raises ValueError when the prompt has no user message.
    """
    asked = [message["content"] for message in prompt if message["role"] == "user"]
    if not asked:
        raise ValueError("the prompt has no user message to read the request from")
    text = asked[-1].lower().replace("’", "'")
    found = COUNT.search(text)
    number = None
    if found:
        said = found.group(1)
        number = 1 if said == "a single" else NUMBERS[said] if said in NUMBERS else int(said)
    facts: list[str] = []
    for word in words_of(COUNT.sub(" ", text)):
        if word in FUNCTION or word in ASKING or word.removesuffix("'s") in facts:
            continue
        facts.append(word.removesuffix("'s"))
    return facts, number


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def parts(prompt: list[dict[str, Any]], completion: str) -> dict[str, float]:
    """The components of the score, each in [0, 1], and `score` itself; see the module's docstring."""
    facts, asked = request(prompt)
    words = words_of(completion)
    number = len(SENTENCE.findall(completion.strip()))
    if not words:
        return dict.fromkeys(
            ("facts", "sentences", "length", "variety", "copied", "ended", "loops", "score"), 0.0
        )
    target = asked if asked is not None else max(1, number)
    wanted_words = MIN_WORDS * max(1, target)
    length = min(1.0, len(words) / wanted_words, MAX_WORDS * max(1, target) / len(words))
    stems = {_stem(word) for word in words}
    named = sum(_stem(fact) in stems for fact in facts) / len(facts) if facts else 1.0
    prose = min(1.0, sum(word in FUNCTION for word in words) / len(words) / 0.25)
    mentioned = named * prose * min(1.0, len(words) / wanted_words)
    sentences = max(0.0, 1.0 - 0.4 * abs(number - target)) if number else 0.0
    window = words[:40]
    variety = min(1.0, len(set(window)) / len(window) / VARIED) * min(1.0, len(words) / wanted_words)
    asked_grams = set(_grams(words_of(_last(prompt)), GRAM))
    copied = 0.5 ** len(asked_grams & set(_grams(words, GRAM)))
    ended = 1.0 if ENDED.search(completion.strip()) else 0.6
    trigrams = _grams(words, 3)
    loops = min(1.0, len(set(trigrams)) / len(trigrams) / UNLOOPED) ** 2 if trigrams else 1.0
    body = 0.60 * mentioned + 0.20 * sentences + 0.12 * length + 0.08 * variety
    return {
        "facts": mentioned,
        "sentences": sentences,
        "length": length,
        "variety": variety,
        "copied": copied,
        "ended": ended,
        "loops": loops,
        "score": body * copied * ended * loops,
    }


def _last(prompt: list[dict[str, Any]]) -> str:
    return next(str(message["content"]) for message in reversed(prompt) if message["role"] == "user")


def judge(prompt: list[dict[str, Any]], completion: str) -> float:
    """Score in [0, 1] of `completion` for the request stated in `prompt`; deterministic."""
    return parts(prompt, completion)["score"]
