"""Reading and writing datasets in a stream: JSONL (plain, .gz, .zst) and Parquet; writes are atomic."""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from alignment.data.records import Record, decode_record, encode_record, with_id
from alignment.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
REJECTED = ".rejected.jsonl"
SIDECAR = ".fingerprint"
ASSETS = Path(__file__).resolve().parent.parent / "assets"

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Written(NamedTuple):
    """What `write_records` wrote."""

    rows: int
    fingerprint: str


class Rejects:
    """Rows set aside instead of read: one line each with file, line, reason and the row itself.

    The file appears with the first rejected row, and replaces one that an earlier run left.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0

    def add(self, where: str, reason: str, row: bytes) -> None:
        mode = "ab" if self.count else "wb"
        self.count += 1
        entry = {"where": where, "reason": reason, "row": row.decode("utf-8", "replace")}
        with self.path.open(mode) as out:
            out.write(msgspec.json.encode(entry) + b"\n")


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a name beside `path` to write a file or a folder to; it takes the place of `path` on success.

    On any exception nothing is left behind and `path` is as it was. Raises UserError if `path` exists
    and `overwrite` is false.
    """
    target = Path(path)
    if not overwrite and os.path.lexists(target):
        raise UserError(f"{target} exists; choose another name or add --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays at the end: writers look at it to choose a compression.
    temporary = target.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{target.name}"
    try:
        yield temporary
        _replace(temporary, target)
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


def data_files(paths: Paths) -> list[Path]:
    """The files of a dataset, sorted within each folder or glob. Raises UserError if there are none."""
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files: list[Path] = []
    for given in several:
        path = resolve_data_path(given)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _is_data(file))
            if not found:
                raise UserError(f"{path}: the folder holds no {', '.join(SUFFIXES)} file")
            files += found
        elif path.exists():
            if not path.name.endswith(SUFFIXES):
                raise UserError(f"{path}: a dataset is a {', '.join(SUFFIXES)} file, a folder or a glob")
            files.append(path)
        else:
            found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_data(file))
            if not found:
                raise UserError(f"{path}: no such file or folder")
            files += found
    if not files:
        raise UserError("no data file was given")
    return files


def _is_data(path: Path) -> bool:
    name = path.name
    return name.endswith(SUFFIXES) and not name.endswith(REJECTED) and not name.startswith(".")


@contextlib.contextmanager
def open_lines(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a text file, plain, .gz or .zst, without holding it in memory."""
    with path.open("rb") as raw:
        yield iter(_decompressed(raw, path.name))


def _decompressed(raw: IO[bytes], name: str) -> Iterable[bytes]:
    if name.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))  # type: ignore[arg-type]
    if name.endswith(".zst"):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return io.BufferedReader(reader, 1 << 20)  # type: ignore[arg-type]
    return raw


@contextlib.contextmanager
def open_output(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write to, compressed as its name says (.gz, .zst, else plain)."""
    if path.name.endswith(".gz"):
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
            yield out  # type: ignore[misc]
    elif path.name.endswith(".zst"):
        import zstandard

        with path.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as out:
            yield out  # type: ignore[misc]
    else:
        with path.open("wb", buffering=1 << 20) as out:
            yield out


def read_records(
    paths: Paths, on_error: Literal["raise", "skip"] = "raise", rejects: Rejects | None = None
) -> Iterator[Record]:
    """Records of a file, folder, glob or a list of them, in a stream.

    on_error: "raise" stops at the first bad row with a UserError; "skip" sets bad rows aside in `rejects`
        (by default FILE.rejected.jsonl beside the first file) and goes on.
    Raises UserError for missing files at once, and at the end if there was no row at all.
    """
    files = data_files(paths)
    if on_error == "skip" and rejects is None:
        rejects = Rejects(f"{files[0]}{REJECTED}")
    return _read_files(files, rejects if on_error == "skip" else None)


def _read_files(files: list[Path], rejects: Rejects | None) -> Iterator[Record]:
    rows = 0
    for file in files:
        for where, line in _rows(file):
            try:
                record = decode_record(line, where)
            except UserError as error:
                if rejects is None:
                    raise
                rejects.add(where, str(error), line)
                continue
            rows += 1
            yield record
    if not rows:
        raise UserError(f"{files[0]}{' and the others' if len(files) > 1 else ''}: the dataset has no usable row")


def _rows(file: Path) -> Iterator[tuple[str, bytes]]:
    with open_lines(file) as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.isspace():
                yield f"{file}, line {number}", line


def write_records(
    path: str | os.PathLike[str], records: Iterable[Record], overwrite: bool = False
) -> Written:
    """Write records in a stream, atomically, each with an id; the format is told by the name of the file.

    Raises UserError if the file exists and `overwrite` is false, or if there is no record to write.
    """
    target = Path(path)
    if not target.name.endswith(SUFFIXES):
        raise UserError(f"{target}: the name must end in {', '.join(SUFFIXES)}")
    digest = hashlib.blake2b(digest_size=16)
    with atomic_output(target, overwrite) as temporary:
        with open_output(temporary) as out:
            rows = 0
            for record in records:
                line = encode_record(with_id(record)) + b"\n"
                digest.update(line)
                out.write(line)
                rows += 1
        if not rows:
            raise UserError(f"{target}: there is no record to write")
    return Written(rows, digest.hexdigest())


def fingerprint(paths: Paths) -> str:
    """A hash (32 hex digits) of the content of a dataset: the same records give the same hash."""
    digest = hashlib.blake2b(digest_size=16)
    for record in read_records(paths):
        digest.update(encode_record(with_id(record)) + b"\n")
    return digest.hexdigest()
