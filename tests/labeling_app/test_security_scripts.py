"""Texts that try to run script, on every page, in chromium: none runs, and no request leaves the machine."""

from __future__ import annotations

from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from labeling_helpers import Visitor
from security_helpers import OPEN_DIALOGS, client_of, session_of
from sqlalchemy import insert, select, update
from xss_payloads import PAYLOADS

from alignment.data.records import Completion, Message, Record, Source
from labeling_app import imports
from labeling_app.pages.account import account_page, invite_page, message_page
from labeling_app.pages.api_docs import docs_page
from labeling_app.pages.login import login_page
from labeling_app.pages.parts import PAGES
from labeling_app.render import render
from labeling_app.store import audit
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, exports, guidelines, projects, tasks

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=15_000)  # other work may share the machine

EVERY = "\n\n".join(PAYLOADS)
ALL = "0 all of it"  # the project with everything in it; its name comes first
# What stands in a page that no page of ours writes: elements that load or run, handlers, addresses of script.
ODD = """root => {
    const runs = /^(script|iframe|object|embed|link|meta|base|video|audio|foreignobject|animate|set|use)$/i;
    const script = /^[\\s\\x00-\\x1f]*(javascript|vbscript|data:text)/i;
    const loads = node => /^(img|image)$/i.test(node.tagName)
        && !/^(\\/ui\\/|data:|blob:)/.test(node.getAttribute('src') ?? 'none');
    const acts = ({ name, value }) => /^on/i.test(name)
        || (/(href|src|action|data|to)$/i.test(name) && script.test(value));
    return [...document.querySelectorAll(`${root} *`)]
        .filter(node => runs.test(node.tagName) || loads(node) || [...node.attributes].some(acts))
        .map(node => node.outerHTML.slice(0, 200));
}"""


def test_there_are_enough_of_them() -> None:
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= 60
    assert all("xss" in text or "evil.test" in text for text in PAYLOADS)


class Watch:
    """A visitor whose every run of `xss()` is counted, in every page and frame."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.ran: list[str] = []
        visitor.context.expose_binding("xss", lambda source, *_: self.ran.append(source["page"].url))

    def look(self, root: str) -> None:
        """Nothing ran so far, and nothing stands here that could."""
        assert self.page.evaluate(ODD, root) == []
        assert self.ran == []
        assert self.visitor.foreign == []


def seed(store: Store) -> None:
    """A project in which every text is hostile, a project of every such name, and people of such names."""
    made = [
        Record(
            id=PAYLOADS[start],
            prompt=[Message("user", EVERY), Message("assistant", EVERY), Message("user", PAYLOADS[start])],
            completions=[
                Completion(content=text, source=Source("model", text))
                for text in [*PAYLOADS[start : start + 8], "end", "end of it"][:8]
            ],
        )
        for start in range(0, len(PAYLOADS), 8)
    ]
    imports.import_records(store, made, project=ALL, overlap=3, guideline="first")
    row = {"guideline": "", "overlap": 1, "gold_rate": 0.0, "asks": "ranking", "created_at": utcnow()}
    dimension = {
        "name": "<b>${xss()}",
        "label": PAYLOADS[3],
        "low_label": PAYLOADS[24],
        "high_label": PAYLOADS[25],
    }
    form = {"dimensions": [dimension], "rationale": "optional", "rewrite": True}
    with store.write() as tx:
        tx.execute(insert(projects), [{"name": text[:200], **row} for text in PAYLOADS])
        for number, project in enumerate(tx.execute(projects.select().where(projects.c.name != ALL)).all()):
            tx.execute(
                insert(tasks).values(
                    project_id=project.id,
                    external_id=str(number),
                    prompt=[],
                    extra={},
                    sha256="",
                    n_required=1,
                    created_at=utcnow(),
                )
            )
        whole = tx.execute(projects.select().where(projects.c.name == ALL)).one()
        tx.execute(guidelines.delete())
        for version in (1, 2):
            text = {"project_id": whole.id, "version": version, "text": EVERY, "created_at": utcnow()}
            tx.execute(insert(guidelines).values(**text))
        values = {
            "guideline": EVERY,
            "guideline_version": 2,
            "consent": EVERY,
            "warning": EVERY,
            "form": form,
        }
        tx.execute(update(projects).where(projects.c.id == whole.id).values(**values))


def rename(store: Store, login: str, to: str) -> None:
    with store.write() as tx:
        tx.execute(update(annotators).where(annotators.c.login == login).values(login=to))


def test_the_watch_sees_what_runs(visit: Any, store: Store) -> None:
    watch = Watch(visit("anna"))
    page = watch.visitor.open()
    page.evaluate("document.querySelector('.rb').innerHTML = '<img src=http://evil.test/x onerror=xss()>'")
    page.wait_for_timeout(200)
    assert watch.ran != []
    assert watch.visitor.foreign == []  # the policy alone keeps the image away
    page.evaluate("open('http://evil.test/y')")
    page.wait_for_timeout(200)
    assert watch.visitor.foreign == ["http://evil.test/y"]
    assert page.evaluate(ODD, ".rb") != []
    watch.visitor.foreign.clear()


def test_the_annotate_page(visit: Any, store: Store) -> None:
    """Choice of a project, consent, warning, tasks rendered and raw, dialogs, history, a judgment again."""
    seed(store)
    watch = Watch(visit("anna"))
    rename(store, "anna", EVERY)
    page = watch.visitor.open()
    expect(page.get_by_role("heading", name="Choose a project")).to_be_visible()
    expect(page.locator(".rb-start-list button")).to_have_count(len(PAYLOADS) + 1)
    watch.look(".rb")
    page.get_by_role("button", name=ALL).click()
    for heading, go_on in (("Before you begin", "I agree"), ("Content warning", "Go on")):
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        watch.look(".rb")
        page.get_by_role("button", name=go_on).click()
    page.wait_for_selector('.rb[data-ready="task"]')
    page.get_by_label("Version of the guideline").select_option("1")
    page.locator("#rb-why").fill(EVERY)
    page.locator(".rb-rewrite summary").click()
    page.locator("#rb-from").select_option("0")
    page.locator("#rb-better").fill(EVERY)
    page.get_by_role("button", name="Flag").click()
    page.get_by_role("dialog").get_by_role("textbox").fill(EVERY[:2000])
    page.get_by_role("button", name="Flag and judge").click()
    page.get_by_role("button", name="Account").click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_contain_text("<script>xss()")
    watch.look(".rb")
    page.keyboard.press("Escape")
    for number in range(0, len(PAYLOADS), 8):
        for _ in range(2):
            page.keyboard.press("r")
            watch.look(".rb")
        if number + 8 < len(PAYLOADS):
            page.keyboard.press("x")
            page.keyboard.press("Enter")
            expect(page.locator(".rb-status")).to_have_text("Saved.")
            page.wait_for_function("() => document.querySelector('.rb').dataset.busy === 'false'")
    page.evaluate(OPEN_DIALOGS, {"text": EVERY, "html": render(EVERY)})
    watch.look(".rb")
    for _ in range(3):
        page.keyboard.press("Escape")
    page.keyboard.press("h")
    expect(page.locator(".rb-past")).to_have_count((len(PAYLOADS) - 1) // 8)
    watch.look(".rb")
    page.locator(".rb-past").last.click()
    expect(page.locator("#rb-why")).to_have_value(EVERY.replace("\r", "\n"))
    watch.look(".rb")


def test_the_plain_pages(visit: Any, store: Store) -> None:
    """Login, account and the API's description, with what was typed and what is stored."""
    watch = Watch(visit("anna"))
    rename(store, "anna", EVERY)
    page = watch.page
    page.goto("/account?done=" + "%3Cscript%3Exss()%3C/script%3E")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>xss()")
    watch.look("main")
    page.goto("/v1/docs?x=<script>xss()</script>")
    watch.look("main")
    page.goto("/login/<script>xss()</script>?${xss()}")
    watch.look("body")
    watch.visitor.context.clear_cookies()
    page.goto("/login")
    page.get_by_label("Login").evaluate(
        "(node, text) => { node.removeAttribute('maxlength'); node.value = text; }", EVERY
    )
    page.get_by_label("Password").fill("x")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    watch.look("main")


def test_the_admin_pages(visit: Any, store: Store, server: Any) -> None:
    """Every page of them, on a project in which people with such names said such things."""
    seed(store)
    for number, login in enumerate(("ann", "bob")):
        judge_all(client_of(server[0], session_of(store, login)), number)
        rename(store, login, PAYLOADS[number + 3])
    with store.write() as tx:
        first = tx.execute(select(tasks.c.project_id, tasks.c.id).order_by(tasks.c.id)).first()
        assert first is not None
        project, task = first
        row = {"project_id": project, "fingerprint": EVERY[:64], "rows": 1, "created_at": utcnow()}
        tx.execute(insert(exports), [{**row, "name": text, "actor": text[:64]} for text in PAYLOADS])
        for text in PAYLOADS:
            audit.append(tx, utcnow(), text[:60], text[:30], text[:60], before=text, after=text)
    session_of(store, "boss", "admin")
    watch = Watch(visit("boss"))
    rename(store, "boss", EVERY)
    page = watch.page
    for path in [f"/admin/{path}?project={project}" for path, *_ in PAGES] + [f"/admin/review?task={task}"]:
        page.goto(path)
        expect(page.locator(".ad-who")).to_contain_text("<script>xss()")
        expect(page.locator(".ad-pages a")).to_have_count(len(PAGES))
        page.evaluate("document.querySelectorAll('button.label-wrap:not(.open)').forEach(one => one.click())")
        watch.look(".gradio-container .html-container")
        assert page.evaluate("document.title").startswith("alignkit")
    watch.visitor.faults[:] = [one for one in watch.visitor.faults if not one.startswith("gradio ")]


def judge_all(client: Any, number: int) -> None:
    """Agree to everything of ALL, and judge its tasks but the last, which is skipped with a reason."""
    client.post("/api/start/project", json={"project": ALL})
    for kind in ("consent", "warning"):
        version = client.post("/api/next", json={}).json()["gate"]["version"]
        client.post(f"/api/start/{kind}", json={"project": ALL, "version": version, "agree": True})
    for turn in range(len(PAYLOADS) // 8):
        task = client.post("/api/next", json={}).json()["task"]
        count = len(task["outputs"])
        said = {"submit_key": f"{number}-{turn:03}-{'x' * 16}", "ranks": list(range(1, count + 1))}
        said |= {"rationale": EVERY, "ratings": {task["form"]["dimensions"][0]["name"]: [1] * count}}
        said |= {"flag": EVERY[:2000], "edited_text": {"output": 0, "text": EVERY}, "seconds": 60}
        answer = client.post(f"/api/assignments/{task['id']}/judgment", json=said)
        assert answer.status_code == 200, answer.text
    task = client.post("/api/next", json={}).json()["task"]
    client.post(f"/api/assignments/{task['id']}/skip", json={"kind": "flag", "reason": EVERY[:2000]})


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attributes]))


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_a_text_adds_no_tag_and_no_attribute_to_a_plain_page(number: int) -> None:
    def pages(text: str) -> list[str]:
        account = dict.fromkeys(("login", "public_id", "role", "oidc_issuer"), text) | {"password_hash": "x"}
        provider = SimpleNamespace(settings=SimpleNamespace(name=text, issuer="i"))
        ours = text.replace(
            "`", "'"
        )  # in docstrings of ours backticks mark code, and nobody else writes them
        described = {"name": text, "in": "query", "schema": {"default": ours}, "description": ours}
        operation = {"description": ours, "parameters": [described]}
        return [
            login_page(text, text, provider),
            invite_page(text, text, text, provider),
            account_page(account, 1, 2, provider, text),  # type: ignore[arg-type]
            message_page(text, text, text, text, refresh=True),
            docs_page({"paths": {text: {"get": operation}}}, text),
        ]

    for hostile, harmless in zip(pages(PAYLOADS[number]), pages("x"), strict=True):
        assert Tags(hostile).found == Tags(harmless).found
