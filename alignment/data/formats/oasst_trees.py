"""Open-Assistant's trees to records, and records to trees. The rows are described in oasst.py."""

from __future__ import annotations

from typing import Any

from alignment.data.formats import compared
from alignment.data.formats.kept import notes_of, part
from alignment.data.records import Completion, Judgment, Message, Parent, Record, Role, Source, record_id
from alignment.errors import UserError

Row = dict[str, Any]
_NAME = "oasst"
_ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}
_SAID = {"message_id", "text", "role"}  # what a record says by itself


class _Node:
    """A message, its place in the tree, and the turns up to it."""

    def __init__(self, row: Row, where: str) -> None:
        if not isinstance(row.get("role"), str) or row["role"] not in _ROLES:
            raise UserError(f'{where}: "role" is {row.get("role")!r}; known are prompter and assistant')
        for key in ("message_id", "text"):
            if not isinstance(row.get(key), str):
                raise UserError(f'{where}: a message without "{key}" that is text')
        if not isinstance(row.get("parent_id"), str | None):
            raise UserError(f'{where}: "parent_id" must be text')
        self.row = row
        self.id: str = row["message_id"]
        self.role: str = row["role"]
        self.parent: _Node | None = None
        self.children: list[_Node] = []
        self.turns: list[Message] = []

    def kept(self) -> Row:
        """What the way back needs and the record does not say by itself."""
        kept = {key: value for key, value in self.row.items() if key not in _SAID}
        if self.parent is not None and kept.get("parent_id") == self.parent.id:
            del kept["parent_id"]
        if self.role == "assistant" and kept.get("rank") is not None:
            del kept["rank"]
        return kept


def tree_records(rows: list[Row], where: str) -> list[Record]:
    """The records of one tree, parents first: of its one row, or of its flat messages. Raises UserError."""
    nested = isinstance(rows[0].get("prompt"), dict)
    roots = _nested(rows[0]["prompt"], where) if nested else _flat(rows, where)
    tree = {key: value for key, value in rows[0].items() if key != "prompt"} if nested else {}
    orphans: dict[str, list[_Node]] = {}
    for root in roots:
        if root.role == "assistant":
            orphans.setdefault(root.row.get("parent_id") or root.id, []).append(root)
    records = [_record(None, replies, key, where) for key, replies in orphans.items()]
    places = {id(node): (key, n) for key, replies in orphans.items() for n, node in enumerate(replies)}
    waiting = roots[::-1]
    while waiting:
        node = waiting.pop()
        waiting += node.children[::-1]
        if node.role == "assistant":
            continue
        replies = [child for child in node.children if child.role == "assistant"]
        record = _record(node, replies, node.id, where)
        places |= {id(reply): (node.id, n) for n, reply in enumerate(replies)}
        if node.parent is not None:
            # A prompter that answers a prompter goes on from no completion.
            record.parent = Parent(*places.get(id(node.parent), (node.parent.id, None)))
        records.append(record)
    for record in records:
        notes = record.meta.setdefault(_NAME, {})
        notes |= {"tree": tree} if nested else {"flat": True}
    return records


def _record(node: _Node | None, replies: list[_Node], name: str, where: str) -> Record:
    record = Record([] if node is None else node.turns, id=name)
    if node is not None:
        record.meta = {_NAME: {"message": node.kept()}}
    record.completions = [_completion(reply) for reply in replies]
    ranks = [_rank(reply.row.get("rank"), where) for reply in replies]
    if any(rank is not None for rank in ranks):
        record.judgments = [Judgment(ranks=ranks)]
    return record


def _completion(node: _Node) -> Completion:
    synthetic, model = node.row.get("synthetic"), node.row.get("model_name")
    completion = Completion(id=node.id, content=node.row["text"], meta={_NAME: node.kept()})
    if isinstance(synthetic, bool):
        completion.source = Source(
            "model" if synthetic else "human", model if isinstance(model, str) else None
        )
    return completion


def _rank(value: Any, where: str) -> int | None:
    try:
        rank = compared.number(value, where, "rank")  # in a table it is a text
    except UserError:
        rank = -1.0
    if rank is None:
        return None
    if not 0 <= rank < 2**31 or rank % 1:
        raise UserError(f'{where}: "rank" is {value!r}; it must be 0 (the best), 1, …, or null')
    return int(rank) + 1


def _nested(prompt: Row, where: str) -> list[_Node]:
    root: list[_Node] = []
    waiting: list[tuple[Row, _Node | None]] = [(prompt, None)]
    while waiting:
        row, parent = waiting.pop()
        own = {key: value for key, value in row.items() if key != "replies"}
        replies = row.get("replies")
        if "replies" not in row or replies is None:
            own["replies"] = False if "replies" not in row else None  # False: there was no such key
        elif not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise UserError(f'{where}: "replies" must be a list of messages')
        node = _Node(own, where)
        _hang(node, parent, where)
        if parent is None:
            root.append(node)
        waiting += [(reply, node) for reply in reversed(replies or [])]
    return root


def _flat(rows: list[Row], where: str) -> list[_Node]:
    nodes = [_Node(row, where) for row in rows]
    by_id = {node.id: node for node in nodes}
    if len(by_id) < len(nodes):
        raise UserError(f"{where}: two messages of the tree have the same message_id")
    roots = []
    for node in nodes:
        parent = by_id.get(node.row.get("parent_id") or "")
        if parent is None:
            roots.append(node)
        else:
            parent.children.append(node)
    waiting = roots[:]
    reached = 0
    while waiting:  # from the roots down, because a row may stand before its parent's
        node = waiting.pop()
        reached += 1
        children, node.children = node.children, []
        if node.parent is None:
            _hang(node, None, where)
        for child in children:
            _hang(child, node, where)
        waiting += children
    if reached < len(nodes):
        raise UserError(f"{where}: messages of the tree are each other's parents")
    return roots


def _hang(node: _Node, parent: _Node | None, where: str) -> None:
    """Put a node under its parent, and give it the turns up to it."""
    node.parent = parent
    if parent is not None:
        if node.role == parent.role == "assistant":
            raise UserError(f"{where}: {node.id} and its parent are both by the assistant")
        parent.children.append(node)
    turns = [] if parent is None else parent.turns
    node.turns = [*turns, Message(_ROLES[node.role], node.row["text"])]


def trees_of(records: list[Record]) -> list[Row]:
    """The row of a tree, or its flat messages, of records that belong together; none if they do not fit.

    The first record begins it; those that do not fit where their parent is are left out.
    """
    first = records[0]
    if first.parent is not None or not _fits(first, []):
        return []
    placed: dict[str, tuple[Record, Row, list[Row]]] = {}
    for record in records:
        place = None if record.parent is None else placed.get(record.parent.id)
        if record is not first and (place is None or not _goes_on(record, place[0])):
            continue
        message, replies = _message(record), _replies(record)
        if record.parent is not None and place is not None:
            answered = record.parent.completion
            above = place[1] if answered is None else place[2][answered]
            message = {"parent_id": above["message_id"], **message}
            above["replies"] = [*(above.get("replies") or []), message]
        if record.prompt and replies:
            message["replies"] = [*replies, *(message.get("replies") or [])]
        placed[record_id(record)] = record, message, replies
    notes = notes_of(first, _NAME)
    _, root, replies = placed[record_id(first)]
    if notes.get("flat"):
        return _flattened([root] if first.prompt else replies)
    if not first.prompt:
        return []
    return [{"message_tree_id": root["message_id"]} | part(notes, "tree") | {"prompt": _without_marks(root)}]


def _fits(record: Record, before: list[Message]) -> bool:
    """Whether the prompt is these turns and one user's, and the completions are plain texts."""
    plain = all(completion.content is not None for completion in record.completions)
    if not record.prompt and not before:  # replies to a message that is not there
        return plain and bool(record.completions)
    asked = [Message("user", message.content) for message in record.prompt[-1:]]
    return plain and bool(asked) and record.prompt == before + asked


def _goes_on(record: Record, parent: Record) -> bool:
    answered = None if record.parent is None else record.parent.completion
    if answered is None:
        return _fits(record, parent.prompt)
    return answered < len(parent.completions) and _fits(
        record, parent.prompt + parent.completions[answered].turns()
    )


def _message(record: Record) -> Row:
    text = record.prompt[-1].content if record.prompt else ""
    kept = part(notes_of(record, _NAME), "message")
    return {"message_id": record_id(record), "text": text, "role": "prompter", "replies": []} | kept


def _replies(record: Record) -> list[Row]:
    ranks = next((judgment.ranks for judgment in record.judgments if judgment.ranks is not None), None)
    found = []
    for index, completion in enumerate(record.completions):
        name = completion.id or f"{record_id(record)}-{index}"
        row: Row = {"message_id": name, "text": completion.content, "role": "assistant", "replies": []}
        if record.prompt:
            row["parent_id"] = record_id(record)
        rank = None if ranks is None else ranks[index]
        if rank is not None:
            row["rank"] = rank - 1
        row |= notes_of(completion, _NAME)
        if completion.source is not None:
            row.setdefault("synthetic", completion.source.kind == "model")
            if completion.source.name is not None:
                row.setdefault("model_name", completion.source.name)
        found.append(row)
    return found


def _without_marks(root: Row) -> Row:
    """The tree without the marks of messages that came without "replies"."""
    waiting = [root]
    while waiting:
        row = waiting.pop()
        if row["replies"] is False:
            del row["replies"]
        else:
            waiting += row["replies"] or []
    return root


def _flattened(roots: list[Row]) -> list[Row]:
    """The messages one by one, each before those that answer it."""
    found = []
    waiting = roots[::-1]
    while waiting:
        row = waiting.pop()
        waiting += (row.pop("replies") or [])[::-1]
        found.append(row)
    return found
