"""Text files as lines of bytes, in a stream: plain, .gz and .zst; a file that is cut short is an error."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from alignment.errors import UserError

LONGEST = 1 << 28  # bytes of one line, or of one entry of an array: 256 MB
_CHUNK = 1 << 18
_MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors put first
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"{\0", b"[\0", b"\0{", b"\0[")


class Block(NamedTuple):
    """Rows that follow one another: lines of text, the first of them being line `first` of `file`, or a
    list of (where, JSON). fault: why no row comes after them, in a sentence, if the file is damaged there.
    """

    file: str
    text: bytes | list[tuple[str, bytes]]
    first: int = 1
    fault: str = ""

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Every row that is not blank as (where, JSON); `where` is "PATH, line N" or the like."""
        if isinstance(self.text, list):
            yield from self.text
            return
        place = f"{self.file}, line "
        for number, line in enumerate(self.text.split(b"\n"), self.first):
            if line and not line.isspace():
                yield f"{place}{number}", line


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every line that is not blank as (where, line); `where` is "PATH, line N", counted from 1.

    Raises UserError if the file is compressed and damaged or cut short, UTF-16, or has a line over 256 MB.
    """
    for block in line_blocks(path):
        yield from block.rows()


def line_blocks(path: Path) -> Iterator[Block]:
    """The lines of a file, about a quarter of a megabyte at a time. Raises UserError as `read_lines` does."""
    name, number = str(path), 1
    held: list[bytes] = []  # the beginning of a line whose end has not come yet
    with open_input(path) as raw:
        try:
            for chunk in text_chunks(raw, name):
                cut = chunk.rfind(b"\n") + 1
                if cut:
                    text = b"".join((*held, memoryview(chunk)[:cut]))
                    yield Block(name, text, number)
                    number += text.count(b"\n")
                    held = []
                held.append(chunk[cut:])
                if len(held) > 1 and sum(map(len, held)) > LONGEST:
                    raise UserError(
                        f"{name}, line {number}: longer than 256 MB, which is no row of a dataset"
                    )
        except UserError as error:
            whole = f" (what comes before line {number} is whole)" if number > 1 else ""
            raise UserError(f"{error}{whole}") from None
    if any(held):
        yield Block(name, b"".join(held), number)


def grouped(rows: Iterator[tuple[str, bytes]], name: str) -> Iterator[Block]:
    """Blocks of rows that come one by one; a UserError of theirs ends the last block as its fault."""
    group: list[tuple[str, bytes]] = []
    size = 0
    try:
        for row in rows:
            group.append(row)
            size += len(row[1])
            if size > _CHUNK:
                yield Block(name, group)
                group, size = [], 0
    except UserError as error:
        yield Block(name, group, fault=str(error))
        return
    if group:
        yield Block(name, group)


def open_input(path: Path) -> IO[bytes]:
    """The file, open for reading. Raises UserError if it cannot be opened (a link to itself, no right, …)."""
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def raw_lines(path: Path) -> Iterator[bytes]:
    """Every line as it is, blank ones and line ends included. Raises UserError as `read_lines` does."""
    with open_input(path) as raw:
        yield from _decompressed(raw, str(path))


def text_chunks(raw: IO[bytes], name: str) -> Iterator[bytes]:
    """The text of a file in pieces, without a byte order mark. Raises UserError for UTF-16 and UTF-32."""
    chunks = _chunks(raw, name)
    start = next(chunks, b"")
    if start.startswith(_WIDE):
        raise UserError(f"{name}, line 1: the file is UTF-16 or UTF-32; save it as UTF-8")
    yield start.removeprefix(_MARK)
    yield from chunks


def _decompressed(raw: IO[bytes], name: str) -> Iterable[bytes]:
    return _split(_chunks(raw, name)) if name.endswith((".gz", ".zst")) else raw


def _chunks(raw: IO[bytes], name: str) -> Iterator[bytes]:
    if name.endswith(".gz"):
        return _gunzip(raw, name)
    if name.endswith(".zst"):
        return _unzstd(raw, name)
    return iter(lambda: raw.read(_CHUNK), b"")


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, with their newline, of text that comes in chunks."""
    rest: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for line in others:
            yield b"".join(rest) + b"\n"
            rest = [line]
    if any(rest):
        yield b"".join(rest)


def _gunzip(raw: IO[bytes], name: str) -> Iterator[bytes]:
    # Member by member: the library's own reader drops the last text before the place where a file is cut.
    member = None
    try:
        while data := raw.read(_CHUNK // 16):
            while data:
                member = member or zlib.decompressobj(wbits=31)
                chunk = member.decompress(data)
                if chunk:
                    yield chunk
                data = b""
                if member.eof:
                    data, member = member.unused_data.lstrip(b"\0"), None  # some programs pad with zeros
    except zlib.error as error:
        raise UserError(f"{name}: the compressed file is damaged ({error})") from None
    if member is not None:
        raise UserError(f"{name}: the compressed file is cut short; get it again")


def _unzstd(raw: IO[bytes], name: str) -> Iterator[bytes]:
    import zstandard

    # Frame by frame: the library's own reader ends without a word where a file is cut short.
    frame = None
    try:
        while data := raw.read(_CHUNK // 16):  # little enough for what it can grow to
            while data:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                chunk = frame.decompress(data)
                if chunk:
                    yield chunk
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
    except zstandard.ZstdError as error:
        raise UserError(f"{name}: the compressed file is damaged ({error})") from None
    if frame is not None:
        raise UserError(f"{name}: the compressed file is cut short; get it again")


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write to, compressed as its name says (.gz, .zst, else plain)."""
    if path.name.endswith(".gz"):
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
            yield out  # type: ignore[misc]
    elif path.name.endswith(".zst"):
        import zstandard

        with path.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as out:
            yield out
    else:
        with path.open("wb", buffering=_CHUNK) as out:
            yield out
