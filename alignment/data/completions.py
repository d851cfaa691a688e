"""What is wrong with a completion: empty, cut off, repetitive, a refusal, a copy of the prompt.

Each is a stated rule, not a model: the rules are in the docstrings, and `completion_faults` names those that
apply. They find candidates to look at; a list or a line of code can end without a full stop, and mean to.
"""

from __future__ import annotations

import re
from collections import Counter

from alignment.data.duplicates import plain
from alignment.data.records import Completion, Message
from alignment.data.refusals import is_refusal

FAULTS = ("empty", "truncated", "repetitive", "refusal", "copy of the prompt")
_CUT = ("length", "max_tokens", "model_length")  # how APIs call a reply that ran into its limit
_FINISHED = ("stop", "end_turn", "eos", "stop_sequence", "tool_calls")
# A reply that ends in a letter, a comma or an opening: no sentence ends so. Ends of code, lists, quotes,
# formulas and signs are let pass.
_OPEN_END = re.compile(r"[\w,;:(\[{–—-]$", re.UNICODE)
_LISTED = re.compile(r"\s*(?:[-*•|#>]+|\(?\w{1,3}[.):])\s+")
_TAG = re.compile(r"(?:#\w+|https?://\S+)$")
_SENTENCE = re.compile(r"\w\w[.!?…](?=\s|$)|[。！？।؟]")
REPEATED_SHARE = 0.5  # of the runs of words
RUN = 4  # words
LEAST = 40  # words, fewer repeat by nature
REPEATED_LINE = 5  # times the same line


def completion_faults(prompt: list[Message], completion: Completion) -> list[str]:
    """Those of FAULTS that apply to a completion, in that order; [] for a good one or a tool call."""
    turns = completion.turns()
    if any(turn.tool_calls or turn.parts for turn in turns):
        return []
    text = completion.text
    if not text.strip():
        return ["empty"]
    asked = next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
    found = {
        "truncated": is_truncated(text, completion),
        "repetitive": is_repetitive(text),
        "refusal": is_refusal(text),
        "copy of the prompt": bool(asked.strip()) and plain(text) == plain(asked),
    }
    return [name for name, applies in found.items() if applies]


def is_truncated(text: str, completion: Completion | None = None) -> bool:
    """Whether a reply was cut off: its source says so, or it holds sentences and ends in the midst of one.

    `meta.finish_reason` or `source.params.finish_reason` decides where it is there. Else prose with a whole
    sentence that ends in a letter, a digit, a comma, a colon, an opening bracket or a dash is cut, and so
    is an unclosed block of code; an end in an entry of a list or a table, a hashtag or a link is not.
    """
    reason = None
    if completion is not None:
        params = completion.source.params if completion.source else {}
        reason = completion.meta.get("finish_reason", params.get("finish_reason"))
    if reason in _CUT:
        return True
    if reason in _FINISHED:
        return False
    last = text.rstrip().rsplit("\n", 1)[-1].strip()
    if text.count("```") % 2:
        return True  # a block of code that was never closed
    item = _LISTED.match(last)
    if "|" in last or _TAG.search(last) or (item and not _SENTENCE.search(last[item.end() :])):
        return False
    # A last line that is long, or goes on after a sentence, is prose; a name, a sum or a title is not.
    prose = len(last.split()) >= 12 or _SENTENCE.search(last[:-1]) is not None
    return prose and _SENTENCE.search(text) is not None and _OPEN_END.search(last) is not None


def is_repetitive(text: str) -> bool:
    """Whether half of the runs of 4 words were seen before (texts of 40 words or more), or one line comes
    5 times and makes half of the lines."""
    lines = [line for line in (line.strip() for line in text.splitlines()) if line]
    if len(lines) >= REPEATED_LINE:
        most = Counter(lines).most_common(1)[0][1]
        if most >= REPEATED_LINE and 2 * most >= len(lines):
            return True
    return repeated_share(text) >= REPEATED_SHARE


def repeated_share(text: str) -> float:
    """The share of a text's runs of RUN words that occurred before in it; 0 for fewer than LEAST words."""
    split = text.casefold().split()
    if len(split) < LEAST:
        return 0.0
    runs = len(split) - RUN + 1
    return 1 - len(set(zip(*(split[at : at + runs] for at in range(RUN)), strict=True))) / runs
