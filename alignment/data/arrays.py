"""JSON arrays as rows, in a stream: only the entry at hand is in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from alignment.data.lines import LONGEST, open_input, text_chunks
from alignment.errors import UserError

_SPACE = re.compile(r"\s*")
_AFTER = re.compile(r"\s*([,\]])")
# It only says where an entry ends, so that numbers stay text, and a row's own faults are left to its reader.
_scanner = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)


def is_array(path: Path) -> bool:
    """Whether the file's text begins with "[". Raises UserError as `read_lines` does."""
    with open_input(path) as raw:
        for chunk in text_chunks(raw, str(path)):
            if chunk.strip():
                return chunk.lstrip().startswith(b"[")
    return False


def array_rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """The entries of a JSON array as ("PATH, row N", JSON text).

    Raises UserError where the text stops being an array: no row after that place can be told from another.
    """
    with open_input(path) as raw:
        # Bytes that are no UTF-8 come through unchanged, for the reader of their row to refuse.
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        texts = (decoder.decode(chunk) for chunk in text_chunks(raw, str(path)))
        text, at, number, open_ = next(texts, ""), 0, 1, False
        while True:
            where = f"{path}, row {number}"
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches anything
            if not open_ and text[at : at + 1] == "[":
                at, open_ = at + 1, True
                continue
            if text[at : at + 1] == "]" and number == 1:
                break
            end = _entry_end(text, at, where) if open_ else None
            after = None if end is None else _AFTER.match(text, end)
            # (A number that the text cuts in two reads as its first part, then "." or "e+".)
            if end is not None and after is None and len(text[end:].lstrip()) > 2:
                raise UserError(f"{where}: not valid JSON: a comma or ] is missing after the row")
            if end is None or after is None:
                text, at = _longer(text[at:], texts, where), 0
                continue
            yield where, text[at:end].encode("utf-8", "surrogateescape")
            at, number = after.end(), number + 1
            if after.group(1) == "]":
                break
        if text[at + (number == 1) :].strip() or any(more.strip() for more in texts):
            raise UserError(
                f"{path}: not valid JSON: there is more text after the array of {number - 1} rows"
            )


def _entry_end(text: str, at: int, where: str) -> int | None:
    """Where the entry that begins at `at` ends; None if the text may end before it does."""
    try:
        return _scanner.raw_decode(text, at)[1]
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except json.JSONDecodeError as error:
        # A text that stops anywhere fails at its very end, or where its last string began.
        if error.pos > len(text) - 16 or error.msg.startswith("Unterminated string"):
            return None
        raise UserError(f"{where}: not valid JSON: {error.msg}") from None


def _longer(text: str, texts: Iterator[str], where: str) -> str:
    """Twice the text or more, so that a long entry is scanned few times."""
    if len(text) > LONGEST:
        raise UserError(f"{where}: longer than 256 MB, which is no row of a dataset")
    pieces, size = [text], 0
    while size <= len(text):
        piece = next(texts, None)
        if piece is None:
            if not size:
                raise UserError(f"{where}: not valid JSON: the text ends inside the array")
            break
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces)
