"""A dataset in portions: each block of its rows through one function, on every core, the results in order.

For commands that look at one row at a time. Every worker process reads all files and takes its share of their
blocks, so that only results travel between processes. The pipe that they travel through is small: a worker
that is ahead waits.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from alignment.data.files import Rejects, decode_block, no_rows, read_blocks
from alignment.data.lines import Block
from alignment.data.records import Record, encode_record, with_id
from alignment.data.views import Row
from alignment.errors import UserError

LARGE = 1 << 25  # bytes of files, from which workers are worth their start
AHEAD = 1 << 20  # bytes of results that a worker may be ahead: what Linux grants to anybody
MOST_WORKERS = 4  # more would wait for the process that writes

Decode = Callable[[bytes, str], Record]
Work = Callable[[Iterator[Record], Counter[str]], tuple[int, Any]]
View = Callable[..., Iterator[Row]]


class Portion(NamedTuple):
    """What became of one block: how many rows came out, and `content` that holds them.

    read: rows that went in; aside: those of them that were refused, as (where, reason, row).
    counts: what the work left out, by reason.
    """

    rows: int
    content: Any
    counts: Counter[str]
    read: int = 0
    aside: Sequence[tuple[str, str, bytes]] = ()


class _Aside:
    """Takes the refused rows of one block. See `files.SetsAside`."""

    def __init__(self) -> None:
        self.rows = 0
        self.entries: list[tuple[str, str, bytes]] = []

    def add(self, where: str, reason: str, row: bytes) -> None:
        self.entries.append((where, reason, row))


def portions(files: list[Path], decode: Decode, work: Work, rejects: Rejects) -> Iterator[Portion]:
    """`work(records, counts)`, which returns (rows, content), for every block of the files, in their order.

    decode: one row and its place to a record, or UserError; refused rows go to `rejects`.
    Worker processes start at once if the files are large. Raises UserError if no row could be used.
    """

    def task(block: Block) -> Portion:
        aside, counts = _Aside(), Counter[str]()
        rows, content = work(decode_block(block, decode, aside), counts)
        return Portion(rows, content, counts, aside.rows, aside.entries)

    workers = _worker_count(files)
    if workers == 1:
        return _accounted((task(block) for block in _blocks(files)), files, rejects)
    return _accounted(_from_workers(files, task, workers), files, rejects)


def _blocks(files: list[Path]) -> Iterator[Block]:
    return itertools.chain.from_iterable(map(read_blocks, files))


def _accounted(found: Iterator[Portion], files: list[Path], rejects: Rejects) -> Iterator[Portion]:
    try:
        for portion in found:
            rejects.rows += portion.read
            for refused in portion.aside:
                rejects.add(*refused)
            yield portion
    finally:
        found.close()  # type: ignore[attr-defined]  # both kinds are generators
    if rejects.rows == rejects.count:
        raise no_rows(files, rejects)


def _worker_count(files: list[Path]) -> int:
    # Elsewhere a process cannot simply be copied while libraries are loaded.
    if sys.platform != "linux" or sum(file.stat().st_size for file in files if file.exists()) < LARGE:
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def _from_workers(files: list[Path], task: Callable[[Block], Portion], workers: int) -> Iterator[Portion]:
    import fcntl  # not there on every system; nor are workers

    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(workers)]
    for _, sender in pipes:
        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, AHEAD)
    gc.freeze()  # what is there now is for the collector of no process: the pages stay shared
    processes = [
        context.Process(target=_share, args=(pipes, k, files, task), daemon=True) for k in range(workers)
    ]
    # Until a worker ignores it, Ctrl-C waits: it is the first process that is to hear it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for process in processes:
        process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    gc.unfreeze()
    for _, sender in pipes:
        sender.close()
    return _in_turn(processes, [receiver for receiver, _ in pipes])


def _in_turn(processes: list[Any], receivers: list[Connection]) -> Iterator[Portion]:
    try:
        for process, receiver in itertools.cycle(zip(processes, receivers, strict=True)):
            try:
                result = receiver.recv()
            except EOFError:
                process.join()
                if process.exitcode < 0:
                    raise UserError(
                        f"a worker process was killed (signal {-process.exitcode}); is there enough memory?"
                    ) from None
                raise RuntimeError("a worker process failed; its traceback is above") from None
            if result is None:  # its turn has come and it has no block: there are no more
                return
            yield result
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _share(pipes: list[Any], number: int, files: list[Path], task: Callable[[Block], Portion]) -> None:
    """In a worker: every block whose turn it is, and None at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    gc.disable()  # records are no cycles
    for receiver, sender in pipes:
        receiver.close()
        if sender is not pipes[number][1]:
            sender.close()
    pipe = pipes[number][1]
    try:
        for block in itertools.islice(_blocks(files), number, None, len(pipes)):
            pipe.send(task(block))
        pipe.send(None)
    except BrokenPipeError:  # the first process is gone
        os._exit(1)


def id_hashes(records: Iterator[Record], _: Counter[str]) -> tuple[int, array[int]]:
    """For `portions`: a hash of each id that is given; equal ids have equal hashes in all workers."""
    rows, hashes = 0, array("q")
    for record in records:
        rows += 1
        if record.id is not None:
            hashes.append(hash(record.id))
    return rows, hashes


def native_lines(records: Iterator[Record], _: Counter[str]) -> tuple[int, bytes]:
    """For `portions`: the records, each with an id, as lines of JSON."""
    lines = [encode_record(with_id(record)) for record in records]
    return len(lines), b"".join(line + b"\n" for line in lines)


def view_rows(view: View, pack: Callable[[list[Row]], bytes]) -> Work:
    """For `portions`: a view's rows, packed."""

    def work(records: Iterator[Record], counts: Counter[str]) -> tuple[int, bytes]:
        rows = list(view(records, counts=counts))
        return len(rows), pack(rows)

    return work


def in_groups(rows: Iterator[Row], pack: Callable[[list[Row]], bytes]) -> Iterator[Portion]:
    """Rows that cannot be shared out, packed a thousand at a time."""
    while group := list(itertools.islice(rows, 1000)):
        yield Portion(len(group), pack(group), Counter())


def repeated(hashes: array[int]) -> int:
    """How many of the hashes were there before."""
    import numpy as np

    return len(hashes) - len(np.unique(np.frombuffer(hashes, np.int64)))
