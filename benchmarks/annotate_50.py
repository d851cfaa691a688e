"""A new annotator ranks 50 tasks in chromium by what the screen says, with mouse and keyboard.

    python benchmarks/annotate_50.py [--tasks 50] [--seed 0] [--out JSON]

A real server on a new database; a person who signs in by typing, agrees to a consent text, and then reads
each task off the screen: the prompt asks a sum, every output claims a result, and the nearer one is better
(equally near is a tie; all more than 50 off is "all bad"). Which hand is used is drawn by seed for each task:
number keys, mouse on the ranks, dragging onto the order, or the buttons up and down; some tasks get a reason,
too. Before anything is submitted, the order that the page shows must be the one that was meant.

Written down: seconds from a task being on the screen to the next one, errors of any kind, and whether the
database holds just the judgments that were meant: ranks, "all bad", reasons and the guideline's version.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "annotate_50.json"
READY = '.rb[data-ready="task"]'
BAD = 50  # off by more than this, an output is of no use
LOGIN, PASSWORD = "newcomer", "a few words to sign in"
CONSENT = "Your judgments are kept under a number, not under your name."
HANDS = ("keys", "mouse", "drag", "buttons")


def make_tasks(count: int, seed: int) -> list[Any]:
    """Records with 2 to 8 outputs, each of which claims a result of the prompt's sum."""
    from alignment.data.records import Completion, Message, Record

    draw = random.Random(seed)
    records = []
    for number in range(count):
        a, b = draw.randint(100, 900), draw.randint(100, 900)
        far = draw.random() < 0.1
        errors = [draw.randint(60, 90) if far else draw.randint(0, 5) for _ in range(draw.randint(2, 8))]
        outputs = [
            Completion(content=f"Let me add **{a}** and {b}.\n\nThat makes {a + b + sign * error}.")
            for error in errors
            for sign in draw.choices((-1, 1))
        ]
        asked = f"What is {a} + {b}? (question {number + 1})"
        records.append(Record(id=f"sum-{number}", prompt=[Message("user", asked)], completions=outputs))
    return records


@contextlib.contextmanager
def server(url: str) -> Iterator[str]:
    """`alignkit label serve` as a process of its own; yields its address."""
    import socket
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "alignment.cli", "label", "serve", "--db", url, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{base}/login", timeout=5).close()
                break
            time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait()


class Annotator:
    """One person before one screen. `errors` says everything that went otherwise than meant."""

    def __init__(self, page: Any, seed: int) -> None:
        self.page = page
        self.draw = random.Random(seed)
        self.errors: list[str] = []
        self.meant: dict[str, dict[str, Any]] = {}  # by the prompt on the screen
        self.seconds: list[tuple[str, float]] = []

    def sign_in(self) -> None:
        page = self.page
        page.goto("/")
        page.keyboard.type(LOGIN)  # the first field has the focus
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_text(CONSENT).wait_for()
        page.get_by_role("button", name="I agree").click()
        page.wait_for_selector(READY)

    def work(self) -> None:
        """Rank until the page says that no tasks are left."""
        page = self.page
        while not page.get_by_role("heading", name="No tasks left").is_visible():
            start = time.monotonic()
            hand = self.draw.choice(HANDS)
            prompt, meant = self.read()
            self.rank(hand, meant)
            self.meant[prompt] = meant
            if not meant["all_bad"] and self.shown() != meant["order"]:
                self.errors.append(f"{prompt}: the page shows {self.shown()}, meant was {meant['order']}")
            before = page.get_by_role("region", name="Prompt").element_handle()
            if hand in ("mouse", "drag"):
                page.get_by_role("button", name="Submit").click()
            else:
                page.keyboard.press("Control+Enter")
            page.wait_for_function("node => !node.isConnected", arg=before)
            said = page.locator(".rb-status").inner_text()
            if said != "Saved.":
                self.errors.append(f"{prompt}: the page said {said!r}")
            self.seconds.append((hand, time.monotonic() - start))

    def read(self) -> tuple[str, dict[str, Any]]:
        """What is asked, and the judgment that follows from what is on the screen."""
        page = self.page
        prompt = page.get_by_role("region", name="Prompt").inner_text().split("\n", 1)[1].strip()
        a, b = map(int, re.findall(r"\d+", prompt)[:2])
        cards = page.get_by_role("article").all()
        texts = [card.locator(".rb-body").inner_text().strip() for card in cards]
        off = [abs(int(re.findall(r"makes (-?\d+)", text)[0]) - a - b) for text in texts]
        levels = sorted(set(off))
        bad = min(off) > BAD
        ranks = [levels.index(one) + 1 for one in off]
        tied = [["ABCDEFGH"[n] for n, one in enumerate(off) if one == level] for level in levels]
        order = " › ".join(" = ".join(letters) for letters in tied)
        reason = (
            f"Off by {', '.join(map(str, off))}: “nearer” is better." if self.draw.random() < 0.2 else None
        )
        return prompt, {
            "texts": texts,
            "ranks": None if bad else ranks,
            "all_bad": bad,
            "order": order,
            "rationale": reason,
        }

    def shown(self) -> str:
        """The order at the bottom of the screen: B › A = C."""
        text = self.page.get_by_role("group", name="Outputs, best first").inner_text()
        return re.sub(r"\s*([›=])\s*", r" \1 ", " ".join(text.split()))

    def rank(self, hand: str, meant: dict[str, Any]) -> None:
        page = self.page
        if meant["all_bad"] and hand in ("keys", "buttons"):
            page.keyboard.press("x")
        elif meant["all_bad"]:
            page.get_by_role("button", name="All bad").click()
        else:
            getattr(self, f"rank_by_{hand}")(meant["ranks"])
        if meant["rationale"] and hand in ("keys", "buttons"):
            page.keyboard.press("w")
            page.keyboard.type(meant["rationale"])
        elif meant["rationale"]:
            page.get_by_role("textbox", name="Why?").click()
            page.keyboard.type(meant["rationale"])

    def rank_by_keys(self, ranks: list[int]) -> None:
        for rank in ranks:  # each digit goes on to the next output
            self.page.keyboard.press(str(rank))

    def rank_by_mouse(self, ranks: list[int]) -> None:
        for letter, rank in zip("ABCDEFGH", ranks, strict=False):
            group = self.page.get_by_role("radiogroup", name=f"Rank of output {letter}")
            group.get_by_role("radio", name=re.compile(rf"^{rank}\b")).click()

    def rank_by_buttons(self, ranks: list[int]) -> None:
        """The first press on "worse" gives the last rank, on "better" the first; then step by step."""
        last = len(ranks)
        for letter, rank in zip("ABCDEFGH", ranks, strict=False):
            label, presses = ("Better", last - rank) if rank > last / 2 else ("Worse", rank - 1)
            opposite = {"Better": "Worse", "Worse": "Better"}[label]
            self.page.get_by_role("button", name=f"{opposite}: output {letter}").click()
            for _ in range(presses):
                self.page.get_by_role("button", name=f"{label}: output {letter}").click()

    def rank_by_drag(self, ranks: list[int]) -> None:
        """Each letter from the row of those to rank: behind the last one, or onto one it ties with."""
        strip = self.page.get_by_role("group", name="Outputs, best first")
        done: dict[int, str] = {}
        for rank, letter in sorted(zip(ranks, "ABCDEFGH", strict=False)):
            chip = strip.locator(".rb-chip", has_text=letter)
            if rank in done:
                self.drag(chip, strip.locator(".rb-chip", has_text=done[rank]))
            elif not done:
                self.drag(chip, strip, across=0.95)
            else:
                self.drag(chip, strip.locator(".rb-chip", has_text=done[rank - 1]), across=0.95)
            done[rank] = letter

    def drag(self, node: Any, target: Any, across: float = 0.5) -> None:
        mouse = self.page.mouse
        node.scroll_into_view_if_needed()
        start, end = node.bounding_box(), target.bounding_box()
        mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
        mouse.down()
        x, y = end["x"] + across * end["width"], end["y"] + end["height"] / 2
        mouse.move((start["x"] + x) / 2, y, steps=3)
        mouse.move(x, y, steps=3)
        mouse.up()


def differing(store: Any, meant: dict[str, dict[str, Any]]) -> list[str]:
    """Where the database holds another judgment than was meant, none, or one too many."""
    from sqlalchemy import select

    from labeling_app.store.models import assignments, completions, judgments, tasks

    faults = []
    with store.read() as connection:
        rows = connection.execute(
            select(judgments, assignments.c.task_id, assignments.c.presented_order, tasks.c.prompt)
            .select_from(judgments.join(assignments).join(tasks))
            .order_by(judgments.c.id)
        ).mappings()
        found = {row["prompt"][-1]["content"]: row for row in rows.all()}
        for prompt in meant.keys() ^ found.keys():
            faults += [f"{prompt}: {'not stored' if prompt in meant else 'not meant'}"]
        for prompt in meant.keys() & found.keys():
            row, wanted = found[prompt], meant[prompt]
            order = row["presented_order"]
            ranks = row["ranks"] and [row["ranks"][ordinal] for ordinal in order]
            stored = {"ranks": ranks, "all_bad": row["both_bad"], "rationale": row["rationale"]}
            if stored != {name: wanted[name] for name in stored} or row["revision"] != 1 or row["late"]:
                faults.append(f"{prompt}: stored is {stored}")
            texts = select(completions.c.content).where(completions.c.task_id == row["task_id"])
            contents = connection.scalars(texts.order_by(completions.c.ordinal)).all()
            read = [" ".join(text.split()) for text in wanted["texts"]]
            if read != [" ".join(contents[ordinal].replace("**", "").split()) for ordinal in order]:
                faults.append(f"{prompt}: the outputs were shown in another order than is recorded")
    return faults


def run(count: int, seed: int) -> dict[str, Any]:
    """The whole of it. Returns the figures."""
    from playwright.sync_api import sync_playwright
    from sqlalchemy import update

    from labeling_app import imports
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow
    from labeling_app.store.models import projects

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/labels.db"
        store = Store(url, create=True)
        imports.import_records(store, make_tasks(count, seed), guideline="The nearer result is better.")
        with store.write() as tx:
            tx.execute(update(projects).values(consent=CONSENT, form={"rationale": "optional"}))
            people.add_annotator(
                tx, utcnow(), LOGIN, PASSWORD, "annotator", people.Passwords(), audit.COMMAND_LINE
            )
        with server(url) as base, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox", "--disable-gpu"]
            )
            context = browser.new_context(base_url=base, viewport={"width": 1366, "height": 768})
            page = context.new_page()
            person = Annotator(page, seed + 1)
            page.on("pageerror", lambda error: person.errors.append(f"script: {error}"))
            person.sign_in()
            person.work()
            browser.close()
        faults = differing(store, person.meant)
        with store.read() as connection:
            audit.verify(connection)
        store.close()
    return {
        "tasks": len(person.seconds),
        "asked": count,
        "seed": seed,
        "equal": len(person.meant) - len(faults),
        "errors": person.errors,
        "faults": faults,
        "seconds": [{"hand": hand, "seconds": round(seconds, 3)} for hand, seconds in person.seconds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    result = {
        "device": f"{len(os.sched_getaffinity(0))} CPU cores",
        "commit": git.stdout.strip(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("gradio", "playwright")},
        **run(args.tasks, args.seed),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['tasks']} tasks, {len(result['errors'])} errors, {result['equal']} as meant: {args.out}")


if __name__ == "__main__":
    main()
