"""Text files as lines of bytes, in a stream: plain, .gz and .zst; a file that is cut short is an error."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from alignment.errors import UserError

_CHUNK = 1 << 18
_MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors put first


def read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every line that is not blank as (where, line); `where` is "PATH, line N", counted from 1.

    Raises UserError if the file is compressed and damaged or cut short.
    """
    name = str(path)
    with path.open("rb") as raw:
        for number, line in enumerate(_decompressed(raw, name), 1):
            if number == 1:
                line = line.removeprefix(_MARK)
            if line and not line.isspace():
                yield f"{name}, line {number}", line


def raw_lines(path: Path) -> Iterator[bytes]:
    """Every line as it is, blank ones and line ends included. Raises UserError as `read_lines` does."""
    with path.open("rb") as raw:
        yield from _decompressed(raw, str(path))


def read_array(path: Path) -> Iterator[tuple[str, bytes]]:
    """The entries of a JSON array as ("PATH, row N", JSON text); a file of lines gives its lines.

    An array is held in memory as text. Raises UserError if it is not JSON.
    """
    with path.open("rb") as raw:
        chunks = _chunks(raw, str(path))
        start = next(chunks, b"")
        if start.removeprefix(_MARK).lstrip()[:1] != b"[":
            yield from read_lines(path)
            return
        text = b"".join((start.removeprefix(_MARK), *chunks))
    try:
        rows = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", bytes(row)


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
    with gzip.GzipFile(fileobj=raw) as file:
        while True:
            try:
                chunk = file.read(_CHUNK)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise UserError(f"{name}: the compressed file is damaged or cut short ({error})") from None
            if not chunk:
                return
            yield chunk


def _unzstd(raw: IO[bytes], name: str) -> Iterator[bytes]:
    import zstandard

    # Frame by frame: the library's own reader ends without a word where a file is cut short.
    frame = None
    try:
        while data := raw.read(_CHUNK):
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
