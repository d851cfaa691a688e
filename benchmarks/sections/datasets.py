"""Datasets."""

from __future__ import annotations

from typing import Any

from sections.common import origin, setting, table

DATA_WORDS = """\
`python benchmarks/data.py`: pair records of about 1 KB, made from a seed; whole commands, each a process of
its own, with the time to start; memory is the peak of the process and its children together, what they share
counted once. The peer is `datasets.load_dataset("json")`, then a Python `map` with the same checks (keys,
types, roles, ranks in range, no assistant at the end of a prompt; it does not see a key that is there twice),
then `to_json` or `to_parquet`, each time with a fresh cache: with `map` as it comes (one process, a row at a
time), and with the fastest of num_proc 1 and 2, batched or not (all tried at 100,000 rows).
check: `alignkit data check`; convert: TRL's pairs to records in JSONL, `alignkit data convert --from trl`;
pairs: `alignkit data view pairs` to Parquet."""


def data(result: dict[str, Any]) -> str:
    """Checking, converting and viewing records, beside `datasets`."""
    rows = []
    for case in result["cases"]:
        if "peer" in case:
            own, plain = case["ours"], case["peer"][0]
            best = min(case["peer"], key=lambda one: one["seconds"])
            cells = [f"{one['seconds']:.1f}" for one in (own, plain, best)]
            cells += [f"{one['seconds'] / own['seconds']:.1f}" for one in (plain, best)]
            cells += [f"{one['peak_bytes'] / 1e6:,.0f}" for one in (own, plain, best)]
            rows.append([case["task"], f"{case['rows']:,}", *cells, setting(best["setting"])])
    alone = [
        [
            case["task"],
            f"{case['rows']:,}",
            f"{case['ours']['seconds']:.1f}",
            f"{case['ours']['peak_bytes'] / 1e6:,.0f}",
        ]
        for case in result["cases"]
        if "peer" not in case
    ]
    head = ["task", "rows", "alignkit, s", "`map`, s", "best `map`, s", "times as fast", "than the best"]
    head += ["alignkit, MB", "`map`, MB", "best `map`, MB", "the best"]
    return "\n\n".join(
        [
            "## Datasets: checking, converting and viewing",
            f"{DATA_WORDS}\n{origin(result)}",
            table(head, rows),
            "Without a peer: records read and written again (native), and `alignkit data duplicates --near`.",
            table(["task", "rows", "seconds", "MB"], alone),
        ]
    )
