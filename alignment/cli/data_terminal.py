"""What the data commands have in common: reading records, and what they print."""

from collections import Counter
from collections.abc import Iterator

from alignment.cli.progress import progress as progress  # for the data commands, with the rest
from alignment.data.detect import check_native
from alignment.data.files import Paths, read_records
from alignment.data.records import Record


def native_records(source: Paths) -> Iterator[Record]:
    """The records of a dataset; a foreign one is refused with the command that converts it."""
    check_native(source)
    return read_records(source)


def listed(counts: Counter[str]) -> str:
    """ "tie: 12, all bad: 3", the most frequent first."""
    return ", ".join(f"{name}: {count:,}" for name, count in counts.most_common()) or "none"


def next_steps(*commands: str) -> None:
    """Print what to run next."""
    print("next: " + "\n      ".join(commands))
