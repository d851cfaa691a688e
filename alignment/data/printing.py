"""A record as a person reads it on a terminal; what data could do to a terminal is shown, never done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from alignment.data.records import Comparison, Completion, Judgment, Message, Record, record_id

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_FOLDED = 160  # characters of an open part (meta, tools, …) until it is asked for in full
# All C0 and C1 controls but newline and tab: with them a text can move the cursor, write over what stands
# there and retitle or reprogram a terminal. And what makes text read as what it is not: directions, line
# ends that are none, characters without a width that join nothing.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_ROLES = {"user": "cyan", "assistant": "green"}


def visible(text: object) -> str:
    """The text with every character that a terminal would obey, or hide, spelled as an escape (\\x1b)."""
    return _UNSAFE.sub(_spelled, str(text))


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def searched_texts(record: Record) -> Iterator[str]:
    """What of a record a search looks into: its id, prompt, completions, judges and their rationales."""
    yield record_id(record)
    for message in record.prompt:
        yield message.content
    for completion in record.completions:
        for message in completion.turns():
            yield message.content
    for judgment in record.judgments:
        yield judgment.by or ""
        yield judgment.rationale or ""


class Printer:
    """Prints records to a `rich` console.

    longest: cut texts to so many characters, and say how many more there are. full: unfold meta and tools.
    side_by_side: completions as the columns of a table.
    """

    def __init__(
        self, console: Console, longest: int | None = None, full: bool = False, side_by_side: bool = False
    ) -> None:
        self.console, self.longest, self.full, self.side_by_side = console, longest, full, side_by_side

    def record(self, record: Record, place: str) -> None:
        """Print a record; place: where it stands, such as "row 3"."""
        self._line(f"record {record_id(record)}", "bold", after=f"  {place}")
        if record.parent is not None:
            after = "" if record.parent.completion is None else f", completion {record.parent.completion}"
            self._line(f"goes on from {record.parent.id}{after}", "dim")
        if record.tools is not None:
            self._line("tools", "bold", after=f"  {self._folded(record.tools)}")
        self._line("prompt", "bold")
        self._turns(record.prompt, 2)
        if record.completions:
            self._line("completions", "bold")
            if self.side_by_side:
                self.console.print(self._columns(record))
            else:
                for index, completion in enumerate(record.completions):
                    self._completion(record, index, completion)
        if record.judgments:
            self._line("judgments", "bold")
            self.console.print(judgment_table(record))
            for judgment in record.judgments:
                self._remarks(judgment)
        if record.meta:
            self._line("meta", "bold", after=f"  {self._folded(record.meta)}")
        self.console.print()

    def _line(self, text: str, style: str = "", indent: int = 0, after: str = "") -> None:
        from rich.text import Text

        # Not wrapped: what is copied or piped on is as it was.
        line = Text(" " * indent).append(visible(text), style).append(visible(after), "dim" if style else "")
        self.console.print(line, soft_wrap=True)

    def _text(self, text: str, indent: int) -> None:
        shown = self._cut(text)
        for line in shown.split("\n"):
            self._line(line, indent=indent)

    def _cut(self, text: str) -> str:
        if self.longest is None or len(text) <= self.longest:
            return text
        return f"{text[: self.longest]}… ({len(text) - self.longest:,} more characters)"

    def _folded(self, value: Any) -> str:
        text = msgspec.json.encode(value).decode()
        if self.full or len(text) <= _FOLDED:
            return text
        return f"{text[:_FOLDED]}… (--full shows all)"

    def _turns(self, turns: list[Message], indent: int) -> None:
        for turn in turns:
            self._line(turn.role, _ROLES.get(turn.role, "magenta"), indent, self._beside(turn))
            self._text(turn.content, indent + 2)

    def _beside(self, turn: Message) -> str:
        """What a turn has besides its role and text."""
        parts = []
        for name in ("name", "tool_call_id", "weight", "parts", "tool_calls"):
            value = getattr(turn, name)
            if value is not None:
                parts.append(f"{name} {self._folded(value) if isinstance(value, list) else value}")
        return "".join(f" · {part}" for part in parts)

    def _completion(self, record: Record, index: int, completion: Completion) -> None:
        self._line(f"[{index}]", "bold", 2, self._about(record, index))
        if completion.content is not None:
            self._text(completion.content, 4)
        else:
            self._turns(completion.turns(), 4)

    def _about(self, record: Record, index: int) -> str:
        """What is known of a completion besides its text."""
        completion = record.completions[index]
        parts = [] if completion.id is None else [completion.id]
        if completion.source is not None:
            params = f" {self._folded(completion.source.params)}" if completion.source.params else ""
            parts.append(f"{completion.source.kind} {completion.source.name or ''}".rstrip() + params)
        if completion.rewards is not None:
            parts.append(f"rewards {_cells(completion.rewards)}")
        if completion.license is not None:
            parts.append(f"licence {completion.license}")
        if index in (record.demonstrations or ()):
            parts.append("demonstration")
        if completion.meta:
            parts.append(f"meta {self._folded(completion.meta)}")
        return "".join(f" · {part}" for part in parts)

    def _columns(self, record: Record) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD)
        cells = []
        for index, completion in enumerate(record.completions):
            table.add_column(Text(visible(f"[{index}] {_name(completion)}")), ratio=1, overflow="fold")
            turns = completion.turns()
            one = completion.content is not None
            text = (
                completion.text
                if one
                else "\n".join(f"{t.role}: {t.content}{self._beside(t)}" for t in turns)
            )
            cells.append(Text(visible(self._cut(text))))
        table.add_row(*cells)
        return table

    def _remarks(self, judgment: Judgment) -> None:
        """What a judge said that has no place in a table."""
        judge = judgment.by or "(anonymous)"
        if judgment.rationale is not None:
            self._line(f"{judge} says", "yellow", 2)
            self._text(judgment.rationale, 4)
        if judgment.meta:
            self._line(f"{judge}, meta", "yellow", 2, f"  {self._folded(judgment.meta)}")


def judgment_table(record: Record) -> Table:
    """One row a judgment; columns only for what some judge stated. Ranks have a column each completion."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    count = len(record.completions)
    columns: dict[str, list[str]] = {"judge": [judgment.by or "(anonymous)" for judgment in record.judgments]}

    def fill(name: str, row: int, value: str) -> None:
        columns.setdefault(name, [""] * len(record.judgments))[row] = value

    for row, judgment in enumerate(record.judgments):
        if judgment.ranks is not None:
            for index in range(count):
                fill(f"rank [{index}]", row, _cells([judgment.ranks[index]]))
        for name, values in (judgment.ratings or {}).items():
            fill(f"rating {name}", row, _cells(values))
        if judgment.labels is not None:
            fill(
                "labels",
                row,
                _cells([None if v is None else "good" if v else "bad" for v in judgment.labels]),
            )
        if judgment.comparisons is not None:
            fill("compared", row, ", ".join(map(_compared, judgment.comparisons)))
        if judgment.all_bad is not None:
            fill("all bad", row, "yes" if judgment.all_bad else "no")
        if judgment.presented is not None:
            fill("shown in the order", row, _cells(judgment.presented))
        for name in ("seconds", "at", "guideline"):
            if getattr(judgment, name) is not None:
                fill(name, row, str(getattr(judgment, name)))
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(Text(visible(name)), overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _name(completion: Completion) -> str:
    source = completion.source.name if completion.source is not None else None
    return " ".join(name for name in (completion.id, source) if name is not None)


def _cells(values: list[Any]) -> str:
    return " ".join(
        "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value) for value in values
    )


def _compared(comparison: Comparison) -> str:
    stated = {"p": comparison.p, "strength": comparison.strength}
    more = ", ".join(f"{name} {value:g}" for name, value in stated.items() if value is not None)
    return f"[{comparison.a}] over [{comparison.b}]" + (f" ({more})" if more else "")
