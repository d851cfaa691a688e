"""Views: what a trainer eats, derived from records in a stream. Columns have TRL's names, conversational.

Every view is a generator over records. What it leaves out it counts by reason in `counts`. Turns are dicts,
for chat templates; with `turns=list` they stay `Message`s, for a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from alignment.data.consensus import record_pairs
from alignment.data.pairs import Counts, best_completion, label_balance
from alignment.data.records import Message, Record, message_dict, record_id

Row = dict[str, Any]
Turns = Callable[[list[Message]], list[Any]]


def _count(counts: Counts, reason: str, times: int = 1) -> None:
    if counts is not None and times:
        counts[reason] += times


def _dicts(messages: list[Message]) -> list[Row]:
    return [message_dict(message) for message in messages]


def _is_empty(turns: list[Message]) -> bool:
    for turn in turns:
        if (turn.content and not turn.content.isspace()) or turn.tool_calls or turn.parts:
            return False
    return True


def messages_view(records: Iterable[Record], counts: Counts = None, turns: Turns = _dicts) -> Iterator[Row]:
    """Whole conversations: {"id", "messages"[, "tools"]}, for SFT.

    A record gives one row for each of its demonstrations; without any, one row for its best ranked
    completion; with a single unjudged completion, that one.
    """
    for record in records:
        if not record.completions:
            _count(counts, "no completion")
            continue
        if record.demonstrations is not None:
            chosen = record.demonstrations
        else:
            best = best_completion(record)
            chosen = [] if best is None else [best]
        if not chosen:
            _count(counts, "no demonstration and no best completion")
        for index in chosen:
            reply = record.completions[index].turns()
            if _is_empty(reply):
                _count(counts, "empty completion")
                continue
            row: Row = {"id": record_id(record), "messages": turns(record.prompt + reply)}
            if record.tools is not None:
                row["tools"] = record.tools
            yield row


def prompts_view(records: Iterable[Record], counts: Counts = None, turns: Turns = _dicts) -> Iterator[Row]:
    """Prompts: {"id", "prompt"}, for PPO, RLOO, generation and evaluation."""
    for record in records:
        if not record.prompt:
            _count(counts, "empty prompt")
            continue
        yield {"id": record_id(record), "prompt": turns(record.prompt)}


def _judged(records: Iterable[Record], counts: Counts) -> Iterator[Record]:
    """The records that could make a pair."""
    for record in records:
        if len(record.completions) < 2:
            _count(counts, "fewer than two completions")
        elif not record.prompt:
            _count(counts, "empty prompt")
        elif not record.judgments:
            _count(counts, "not judged")
        else:
            yield record


def pairs_view(
    records: Iterable[Record],
    how: Literal["each", "majority", "model", "dawid-skene"] = "each",
    margin: bool = False,
    most: int | None = None,
    counts: Counts = None,
    turns: Turns = _dicts,
) -> Iterator[Row]:
    """Pairs: {"id", "prompt", "chosen", "rejected", "weight", "judges"[, "margin"]}, for reward and DPO.

    how: "each": every judge's strict order votes, and a pair that judges order both ways gives a row each
        way; "majority": one row in the direction with more votes, weight = its share of the votes cast;
        "model", "dawid-skene": one row, weight = the probability that chosen is better, by a model of all
        judges fitted over all records (see consensus.py), which wait on disk meanwhile.
    weight: for "each" the share of the votes for this direction. judges: how many voted for it.
    margin: adds the mean stated strength, or else the difference in rank; for a model the log-odds of the
        weight (TRL's losses change on seeing it).
    most: only so many pairs of each record, those of the greatest margin first.
    """
    for record, agreed in record_pairs(_judged(records, counts), how, counts):
        prompt = turns(record.prompt)
        replies = [completion.turns() for completion in record.completions]
        pairs = []
        for pair in agreed:
            chosen, rejected = replies[pair.chosen], replies[pair.rejected]
            if chosen == rejected:
                _count(counts, "equal completions")
            elif _is_empty(chosen) or _is_empty(rejected):
                _count(counts, "empty completion")
            else:
                pairs.append(pair)
        if most is not None and len(pairs) > most:
            _count(counts, "pair closer in rank", len(pairs) - most)
            pairs = sorted(pairs, key=lambda pair: -pair.margin)[:most]
        for pair in pairs:
            row: Row = {
                "id": record_id(record),
                "prompt": prompt,
                "chosen": turns(replies[pair.chosen]),
                "rejected": turns(replies[pair.rejected]),
                "weight": pair.weight,
                "judges": pair.judges,
            }
            if margin:
                row["margin"] = pair.margin
            yield row


def rankings_view(records: Iterable[Record], counts: Counts = None, turns: Turns = _dicts) -> Iterator[Row]:
    """Rankings: {"id", "prompt", "completions", "ranks"}, one row a judge, for K-wise reward losses.

    Only completions that the judge ranked are in the row; equal ranks are tie groups.
    """
    for record in records:
        if not record.prompt:
            _count(counts, "empty prompt")
            continue
        if not record.judgments:
            _count(counts, "not judged")
        for judgment in record.judgments:
            if judgment.all_bad:
                _count(counts, "all bad")
                continue
            if judgment.ranks is None:
                _count(counts, "no ranks")
                continue
            kept = [index for index, rank in enumerate(judgment.ranks) if rank is not None]
            ranks = [judgment.ranks[index] for index in kept]
            if len(set(ranks)) < 2:
                _count(counts, "all tied" if len(kept) > 1 else "fewer than two ranked")
                continue
            yield {
                "id": record_id(record),
                "prompt": turns(record.prompt),
                "completions": [turns(record.completions[index].turns()) for index in kept],
                "ranks": ranks,
            }


def unpaired_view(records: Iterable[Record], counts: Counts = None, turns: Turns = _dicts) -> Iterator[Row]:
    """Single completions: {"id", "prompt", "completion", "label"}, for KTO.

    The label is the majority of the judges' labels (and False for all completions of an all-bad judgment).
    """
    for record in records:
        if not record.prompt:
            _count(counts, "empty prompt")
            continue
        if not record.completions:
            _count(counts, "no completion")
        for index, completion in enumerate(record.completions):
            balance = label_balance(record.judgments, index)
            if not balance:
                _count(counts, "no label, or as many good as bad")
                continue
            reply = completion.turns()
            if _is_empty(reply):
                _count(counts, "empty completion")
                continue
            yield {
                "id": record_id(record),
                "prompt": turns(record.prompt),
                "completion": turns(reply),
                "label": balance > 0,
            }


VIEWS: dict[str, Callable[..., Iterator[Row]]] = {
    "messages": messages_view,
    "prompts": prompts_view,
    "pairs": pairs_view,
    "rankings": rankings_view,
    "unpaired": unpaired_view,
}
