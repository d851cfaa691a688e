"""The admin area in chromium, by mouse and keyboard: a project from nothing to an export, a last word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from labeling_helpers import PASSWORD, add_people, make_records
from sqlalchemy import update

from alignment.data.files import read_records, write_records
from labeling_app import imports
from labeling_app.store.database import Store
from labeling_app.store.models import annotators

playwright_api = pytest.importorskip("playwright.sync_api")
expect = playwright_api.expect
expect.set_options(timeout=30_000)  # other work may share the machine

READY = '.rb[data-ready="task"]'


@pytest.fixture
def staff(visit: Any, store: Store) -> Any:
    """Sign somebody in with a role; a wide window, as at a desk."""

    def make(login: str, role: str, **options: Any) -> Any:
        add_people(store, login)
        with store.write() as tx:
            tx.execute(update(annotators).where(annotators.c.login == login).values(role=role))
        return visit(
            login, **{"viewport": {"width": 1280, "height": 900}, "accept_downloads": True, **options}
        )

    return make


def sign_up(visit: Any, link: str, login: str) -> Any:
    """Follow an invitation and make an account."""
    page = visit(None).page
    page.goto(link)
    page.get_by_label("Login").fill(login)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Make my account").click()
    page.wait_for_selector(READY)
    return page


def rank_all(page: Any, best_first: bool) -> None:
    """Rank by the texts on the screen, "Answer n.k" by k or the other way round."""
    while page.locator(READY).count():
        before = page.locator(".rb").get_attribute("data-task")
        for text in page.locator(".rb-body").all_inner_texts():
            ordinal = int(text.strip()[-1])
            page.keyboard.press(str(ordinal + 1 if best_first else 3 - ordinal))
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.querySelector('.rb').dataset.task !== before", arg=before)
        page.wait_for_selector(".rb[data-ready]")


def invite(page: Any) -> str:
    page.get_by_role("link", name="Accounts").click()
    page.get_by_role("button", name="Make an invitation").click()
    shown = page.get_by_role("textbox", name="Invitation link")
    expect(shown).to_be_visible()
    return str(shown.input_value())


def test_from_no_project_to_an_export(staff: Any, visit: Any, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "outputs.jsonl"
    write_records(file, make_records(2, outputs=3))
    page = staff("ada", "admin").page
    page.goto("/admin/")
    expect(page.get_by_text("No projects yet")).to_be_visible()
    page.get_by_role("link", name="New project").click()
    # What the page's own event fills in is there: from now on it hears clicks.
    expect(page.get_by_role("textbox", name="Guideline")).to_have_value(re.compile("."))
    page.get_by_label("Name", exact=True).fill("essays")
    page.get_by_role("button", name="Make the project").click()
    expect(page.get_by_role("link", name="Import its tasks")).to_be_visible()
    page.get_by_role("link", name="Import its tasks").click()
    expect(page.get_by_role("heading", name="Import", exact=True)).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Click to Upload").click()
    chooser.value.set_files(file)
    expect(page.get_by_text("Format: native")).to_be_visible()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("2 tasks added, 0 were there already.")).to_be_visible()

    links = [invite(page), invite(page)]
    assert links[0] != links[1]
    for login, link, best_first in zip(("anna", "ben"), links, (True, False), strict=True):
        rank_all(sign_up(visit, link, login), best_first)

    page.get_by_role("link", name="Progress").click()
    row = page.get_by_role("table", name="What each annotator did").get_by_role("row")
    expect(row).to_have_count(3)
    expect(page.get_by_role("columnheader", name="Hours worked")).to_be_visible()
    assert all(float(text) < 1 for text in row.locator("td:nth-child(3)").all_inner_texts())
    expect(page.get_by_text("4 of 4")).to_be_visible()
    page.get_by_role("link", name="Agreement").click()
    expect(page.get_by_text("Pairwise agreement", exact=True)).to_be_visible()
    expect(page.locator(".ad-fact", has_text="Pairwise agreement")).to_contain_text("0.0%")
    expect(page.get_by_text(re.compile("anna · ben|ben · anna"))).to_be_visible()

    page.get_by_role("link", name="Import & export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    out = tmp_path / "ranked.jsonl"
    download.value.save_as(out)
    assert [[one.ranks for one in record.judgments] for record in read_records(out)] == [
        [[1, 2, 3], [3, 2, 1]]
    ] * 2
    page.reload()
    exported = page.get_by_role("table", name="Exports of this project")
    expect(exported).to_contain_text(download.value.suggested_filename)
    expect(exported).to_contain_text("ada")
    page.get_by_role("link", name="Audit log").click()
    page.get_by_role("button", name="Check the chain of hashes").click()
    expect(page.get_by_text("Chain verified")).to_be_visible()


def disputed(store: Store) -> None:
    """Two tasks on which two imported judges differ."""
    from alignment.data.records import Judgment

    records = make_records(2, outputs=2)
    for record in records:
        record.judgments = [
            Judgment(by="p", ranks=[1, 2]),
            Judgment(by="q", ranks=[2, 1], rationale="No: <b>q</b>"),
        ]
    imports.import_records(store, records)


def test_a_reviewer_has_the_last_word(staff: Any, store: Store, tmp_path: Path) -> None:
    """By keyboard alone; the page names neither models nor judges; the export carries it."""
    from labeling_app import exports

    disputed(store)
    page = staff("rita", "reviewer").page
    page.goto("/admin/review")
    expect(page.get_by_text("2 tasks wait for a last word")).to_be_visible()
    expect(page.get_by_text("No: <b>q</b>").first).to_be_visible()
    assert "secret-model" not in page.content()
    expect(page.get_by_role("link", name="Settings")).to_have_count(0)
    for word in ("A > B", "B > A"):
        before = page.locator("h2").first.inner_text()
        page.get_by_label("Another order").first.focus()
        page.get_by_role("textbox", name="Another order").focus()
        page.keyboard.type(word)
        page.keyboard.press("Tab")
        page.keyboard.type("Because it is.")
        page.get_by_role("button", name="Decide").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("Decided: task").last).to_be_visible()
        page.wait_for_function("before => document.querySelector('h2').innerText !== before", arg=before)
    expect(page.get_by_text("Nothing to decide")).to_be_visible()
    exports.export_records(store, tmp_path / "out.jsonl", everything=True)
    words = [record.judgments[-1] for record in read_records(tmp_path / "out.jsonl")]
    assert [word.meta.get("adjudicated") for word in words] == [True, True]
    assert {word.rationale for word in words} == {"Because it is."}
    assert all(sorted(word.ranks or []) == [1, 2] for word in words)
    page.goto("/admin/records")
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("button", name="Download")).to_have_count(0)


PAYLOAD = "<img src=x onerror=alert(1)>${alert(1)}{{alert(1)}}<script>alert(1)</script>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_on_a_phone_with_hostile_texts(staff: Any, store: Store, scheme: str) -> None:
    """320 px: nothing sticks out, no script runs, whatever names and texts say."""
    from alignment.data.records import Judgment
    from labeling_app.pages.parts import PAGES

    records = make_records(1, outputs=2)
    records[0].prompt[0].content = PAYLOAD
    records[0].completions[0].content = PAYLOAD
    records[0].judgments = [
        Judgment(by=PAYLOAD, ranks=[1, 2], rationale=PAYLOAD, presented=[0, 1]),
        Judgment(by="b" * 90, ranks=[2, 1], presented=[0, 1]),
    ]
    imports.import_records(store, records, project=PAYLOAD.replace("/", ""), guideline=PAYLOAD)
    visitor = staff(
        "ada",
        "admin",
        viewport={"width": 320, "height": 640},
        is_mobile=True,
        has_touch=True,
        color_scheme=scheme,
    )
    page = visitor.page
    for path, name, *_ in PAGES:
        page.goto(f"/admin/{path}")
        expect(page.get_by_role("link", name="Audit log")).to_be_attached()
        expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        assert page.locator(".html-container img:not([src^='/ui/']), .html-container script").count() == 0, (
            path
        )
        light = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)[0] > 128"
        )
        assert light == (scheme == "light")


def test_the_download_is_for_admins(caller: Any, store: Store) -> None:
    disputed(store)
    for role, status in ((None, 401), ("annotator", 403), ("reviewer", 403), ("admin", 200)):
        answer = caller(role).client.post(
            "/export", data={"project": 1, "form": "jsonl", "everything": "true"}
        )
        assert answer.status_code == status
    assert json.loads(answer.text.splitlines()[0])["id"] == "record-0"
