"""Datasets on disk, read and written in a stream: JSONL (plain, .gz, .zst) and Parquet; writes are atomic."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol

import msgspec

from alignment.data.arrays import array_rows, is_array
from alignment.data.lines import Block, grouped, line_blocks, open_output
from alignment.data.parquet import FINGERPRINT, ROWS, ParquetSink, parquet_metadata, parquet_rows
from alignment.data.records import Record, decode_record, encode_record, explained, with_id
from alignment.data.tables import TABLES, table_rows
from alignment.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
FOREIGN_SUFFIXES = (".json", ".json.gz", ".json.zst", *SUFFIXES, *TABLES)  # .json: an array, or lines
REJECTED = ".rejected.jsonl"
SIDECAR = ".fingerprint"
ASSETS = Path(__file__).resolve().parent.parent / "assets"

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Written(NamedTuple):
    """What `write_records` wrote."""

    rows: int
    fingerprint: str


class SetsAside(Protocol):
    """Counts the rows that were read, and takes those that were refused, each with its place and reason."""

    rows: int

    def add(self, where: str, reason: str, row: bytes) -> None: ...


class Rejects:
    """Rows set aside instead of read; `path`, if given, gets one line each: place, reason and the row itself.

    The file appears with the first rejected row, and replaces one that an earlier run left.
    stop: raise the first reason as a UserError; for a reader that sets nothing aside and is counted.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, stop: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.stop = stop
        self.rows = 0  # that were read, also those set aside
        self.count = 0  # of those set aside
        self.reasons: list[str] = []  # the first few, each with its place
        self._out: IO[bytes] | None = None

    def add(self, where: str, reason: str, row: bytes) -> None:
        if self.stop:
            self.reasons.append(reason)
            raise UserError(reason)
        if self.path is not None:
            entry = {"where": where, "reason": reason, "row": row.decode("utf-8", "replace")}
            try:
                # Unbuffered, so that the file is whole after every row, with nothing to close at the end.
                self._out = self._out or self.path.open("wb", buffering=0)
                self._out.write(msgspec.json.encode(entry) + b"\n")
            except OSError as error:
                raise UserError(f"{self.path}: {error.strerror}; nothing more can be set aside") from None
        self.count += 1
        if self.count <= 10:
            self.reasons.append(reason)


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a name beside `path` to write a file or a folder to; it takes the place of `path` on success.

    On any exception nothing is left behind and `path` is as it was. Raises UserError if `path` exists
    and `overwrite` is false, if there is no right or no room to write it.
    """
    target = Path(path)
    if not overwrite and os.path.lexists(target):
        raise UserError(f"{target} exists; choose another name or add --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target}: no folder can be made for it ({error.strerror}: {error.filename})"
        ) from None
    # The suffix stays at the end: writers look at it to choose a compression.
    temporary = target.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{target.name}"
    try:
        yield temporary
        _replace(temporary, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"{os.strerror(error.errno)}; nothing was kept, so make room first"
            raise UserError(f"{target}: {reason}") from None
        if error.filename is not None and os.fspath(error.filename) in (str(temporary), str(target)):
            raise UserError(f"{target}: it cannot be written ({error.strerror})") from None
        raise
    finally:
        remove(temporary)


def _replace(temporary: Path, target: Path) -> None:
    if temporary.is_dir() or target.is_dir():
        # A folder cannot replace a folder in one step: the old one steps aside first.
        aside = target.parent / f".old-{os.getpid()}-{secrets.token_hex(4)}-{target.name}"
        if os.path.lexists(target):
            os.rename(target, aside)
        os.rename(temporary, target)
        remove(aside)
    else:
        os.replace(temporary, target)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def resolve_data_path(path: str | os.PathLike[str]) -> Path:
    """The path itself, or for `quickstart/NAME` that does not exist here, the file the package carries."""
    given = Path(path)
    packaged = ASSETS / given
    if not given.exists() and given.parts[:1] == ("quickstart",) and packaged.exists():
        return packaged
    return given


def data_files(paths: Paths, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files of a dataset, sorted within each folder or glob. Raises UserError if there are none."""
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files: list[Path] = []
    for given in several:
        path = resolve_data_path(given)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _is_data(file, suffixes))
            if not found:
                raise UserError(f"{path}: the folder holds no {', '.join(suffixes)} file")
            files += found
        elif path.exists():
            if not path.name.endswith(suffixes):
                raise UserError(f"{path}: the name must end in {', '.join(suffixes)}")
            files.append(path)
        else:
            matches = map(Path, glob.glob(str(path), recursive=True))
            found = sorted(file for file in matches if _is_data(file, suffixes))
            if "**" in str(path):
                # A link to a folder above leads to the same file by many names: the shortest one counts.
                found.sort(key=lambda file: len(file.parts), reverse=True)
                found = sorted({file.resolve(): file for file in found}.values())
            if not found:
                raise UserError(f"{path}: no such file or folder")
            files += found
    if not files:
        raise UserError("no data file was given")
    return files


def _is_data(path: Path, suffixes: tuple[str, ...]) -> bool:
    name = path.name
    return name.endswith(suffixes) and not name.endswith(REJECTED) and not name.startswith(".")


def read_records(
    paths: Paths, on_error: Literal["raise", "skip"] = "raise", rejects: Rejects | None = None
) -> Iterator[Record]:
    """Records of a file, folder, glob or a list of them, in a stream.

    on_error: "raise" stops at the first bad row with a UserError; "skip" sets bad rows aside in `rejects`
        (by default NAME.rejected.jsonl beside the first file) and goes on.
    Raises UserError for missing files at once, and at the end if there was no usable row at all.
    """
    files = data_files(paths)
    if on_error == "skip" and rejects is None:
        rejects = Rejects(rejected_path(files[0]))
    return decode_rows(files, decode_record, rejects if on_error == "skip" else None)


def decode_rows(
    files: list[Path], decode: Callable[[bytes, str], Record], rejects: Rejects | None = None
) -> Iterator[Record]:
    """Records from the rows of `files`, each through `decode(row, where)`; refused rows go to `rejects`.

    Without `rejects` the first refused row raises its UserError; so does a dataset without a usable row.
    """
    rows = 0
    for file in files:
        for block in read_blocks(file):
            for record in decode_block(block, decode, rejects):
                rows += 1
                yield record
    if not rows:
        raise no_rows(files, rejects)


def no_rows(files: list[Path], rejects: Rejects | None) -> UserError:
    """What to raise where a dataset had no usable row."""
    refused = f" ({rejects.count} were refused: {rejects.reasons[0]})" if rejects and rejects.count else ""
    return UserError(f"{', '.join(map(str, files[:3]))}: no usable row in the dataset{refused}")


def decode_block(
    block: Block, decode: Callable[[bytes, str], Record], rejects: SetsAside | None
) -> Iterator[Record]:
    """Records of one block's rows, as `decode_rows` gives them; its fault counts as one refused row."""
    for where, row in block.rows():
        if rejects is not None:
            rejects.rows += 1
        try:
            record = decode(row, where)
        except (UserError, RecursionError) as error:
            deep = isinstance(error, RecursionError)
            reason = f"{where}: nested too deeply" if deep else explained(str(error), row)
            if rejects is None:
                raise UserError(reason) from None
            rejects.add(where, reason, row)
            continue
        yield record
    if block.fault:
        if rejects is None:
            raise UserError(block.fault)
        rejects.rows += 1
        rejects.add(f"{block.file}, the rest of the file", block.fault, b"")


def read_blocks(file: Path) -> Iterator[Block]:
    """The rows of a file, whatever its form, some at a time; damage to the file is a block's `fault`."""
    try:
        if file.name.endswith(".parquet"):
            yield from grouped(parquet_rows(file), str(file))
        elif file.name.endswith(TABLES):
            yield from grouped(table_rows(file), str(file))
        elif file.name.endswith(FOREIGN_SUFFIXES[:3]) and is_array(file):
            yield from grouped(array_rows(file), str(file))
        else:
            yield from line_blocks(file)
    except UserError as error:
        yield Block(str(file), [], fault=str(error))


class RecordWriter:
    """Takes records one by one; knows how many rows there are and their fingerprint."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._digest = hashlib.blake2b(digest_size=16)
        self.rows = 0

    def write(self, record: Record) -> None:
        line = encode_record(with_id(record)) + b"\n"
        self._digest.update(line)
        self._sink.write(line)
        self.rows += 1

    def write_lines(self, lines: bytes, rows: int) -> None:
        """That many encoded records, each with an id and ended by a newline."""
        self._digest.update(lines)
        if isinstance(self._sink, ParquetSink):
            for line in lines.splitlines():
                self._sink.write(line)
        else:
            self._sink.write(lines)
        self.rows += rows

    @property
    def written(self) -> Written:
        return Written(self.rows, self._digest.hexdigest())


@contextlib.contextmanager
def record_writer(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[RecordWriter]:
    """A writer whose file appears at `path` when the block ends well; its format is told by the name.

    The fingerprint goes into a Parquet file's metadata, or into PATH.fingerprint beside a JSONL file.
    Raises UserError for another suffix, an existing file without `overwrite`, and if nothing was written.
    """
    target = Path(path)
    if not target.name.endswith(SUFFIXES):
        raise UserError(f"{target}: the name must end in {', '.join(SUFFIXES)}")
    parquet = target.name.endswith(".parquet")
    open_sink: Any = ParquetSink if parquet else open_output
    with atomic_output(target, overwrite) as temporary:
        with open_sink(temporary) as sink:
            writer = RecordWriter(sink)
            yield writer
            if not writer.rows:
                raise UserError(f"{target}: there is no record to write")
            if parquet:
                sink.metadata.update({ROWS: str(writer.rows), FINGERPRINT: writer.written.fingerprint})
        if not parquet:
            _write_sidecar(temporary, target, writer.written)


def write_records(
    path: str | os.PathLike[str], records: Iterable[Record], overwrite: bool = False
) -> Written:
    """Write records in a stream, atomically, each with an id. See `record_writer` for the errors."""
    with record_writer(path, overwrite) as writer:
        for record in records:
            writer.write(record)
    return writer.written


def _write_sidecar(data: Path, target: Path, written: Written) -> None:
    """Before `data` takes its name, so that a full disk leaves neither; a renamed file keeps its times."""
    state = data.stat()
    entry = {**written._asdict(), "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    with atomic_output(f"{target}{SIDECAR}", overwrite=True) as temporary:
        temporary.write_bytes(msgspec.json.encode(entry) + b"\n")


def fingerprint(paths: Paths) -> str:
    """A hash (32 hex digits) of the content of a dataset: the same records in the same order, the same hash.

    It is the same for JSONL and Parquet, whatever the compression. Taken from the file's metadata or
    sidecar where that is there and fits the file, else computed by reading the records.
    """
    prints = [_known_fingerprint(file) or _computed_fingerprint(file) for file in data_files(paths)]
    if len(prints) == 1:
        return prints[0]
    return hashlib.blake2b("".join(prints).encode(), digest_size=16).hexdigest()


def _known_fingerprint(file: Path) -> str | None:
    if file.name.endswith(".parquet"):
        metadata, rows = parquet_metadata(file)
        return metadata.get(FINGERPRINT) if metadata.get(ROWS) == str(rows) else None
    sidecar = Path(f"{file}{SIDECAR}")
    if not sidecar.exists():
        return None
    entry = msgspec.json.decode(sidecar.read_bytes())
    state = file.stat()
    # A file that was edited, or copied without its times, is read again.
    fits = (entry["bytes"], entry["mtime_ns"]) == (state.st_size, state.st_mtime_ns)
    return str(entry["fingerprint"]) if fits else None


def _computed_fingerprint(file: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for record in decode_rows([file], decode_record):
        digest.update(encode_record(with_id(record)) + b"\n")
    return digest.hexdigest()


def rejected_path(path: str | os.PathLike[str]) -> Path:
    """Where the rows go that were refused on the way to or from `path`: a.jsonl -> a.rejected.jsonl."""
    name = str(path)
    stem = next((name.removesuffix(suffix) for suffix in FOREIGN_SUFFIXES if name.endswith(suffix)), name)
    return Path(f"{stem}{REJECTED}")
