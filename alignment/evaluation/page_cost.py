"""What the answers cost, as a section of the page."""

from __future__ import annotations

from typing import Any

from alignment.report.page import Page
from alignment.report.text import number

SOURCES = {
    "here": "made here",
    "requests": "asked of a service",
    None: "not measured: a file of completions",
}
MEMORIES = {"gpu": "GPU", "process": "process"}


def cost(page: Page, report: dict[str, Any]) -> None:
    """A row for every candidate, and what the figures are."""
    figures = report["cost"]
    if not any(f["source"] for f in figures.values()):
        return
    page.heading("What it cost")
    rows = []
    for name, f in figures.items():
        latency = f["latency"] or {"tokens_per_second": None}
        waits, memory = "–", "–"
        if f["latency"]:
            waits = f"{number(latency['p50'])} s, {number(latency['p95'])} s (of {latency['n']:,})"
        if f["peak_bytes"] is not None:
            memory = f"{number(f['peak_bytes'] / 2**30)} GiB of the {MEMORIES[f['memory']]}"
        speeds = [number(f["tokens_per_second"]), number(latency["tokens_per_second"])]
        rows.append([name, speeds[0], waits, speeds[1], memory, f["device"] or SOURCES[f["source"]]])
    heads = ["candidate", "tokens a second, in batches", "one answer: median, 95%", "tokens a second, alone"]
    page.table([*heads, "peak memory", "where"], rows)
    notes = [
        "In batches: sampled tokens by seconds of sampling, all prompts at once as far as they fit; it says "
        "what many answers cost.",
    ]
    if any(f["latency"] and f["source"] == "here" for f in figures.values()):
        notes.append(
            "One answer: how long one prompt asked alone waited for its whole answer; of so few, the 95% "
            "quantile is little more than the slowest."
        )
    waited = [
        f["latency"]["at_a_time"] for f in figures.values() if f["source"] == "requests" and f["latency"]
    ]
    if waited:
        notes.append(
            f"Of a service: how long a request took with up to {max(waited)} at a time, the network "
            "included, tries that failed and waits left out; its tokens and its memory are not known here."
        )
    if any(f["memory"] == "process" for f in figures.values()):
        notes.append("Memory of the process is all that it held: Python, its libraries, the weights.")
    page.text(" ".join(notes))
