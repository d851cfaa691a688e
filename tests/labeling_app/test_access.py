"""Accessibility: axe finds nothing serious on any page, the keyboard is enough, names say what is what."""

from __future__ import annotations

from typing import Any

import pytest
from labeling_helpers import PASSWORD, Visitor, add_people, add_tasks, make_records
from security_helpers import OPEN_DIALOGS, client_of, session_of
from sqlalchemy import update

from alignment.data.records import Completion, Message, Record
from labeling_app import imports
from labeling_app.accounts import INVITE_COOKIE
from labeling_app.pages.parts import PAGES
from labeling_app.store import invitations
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import judgments, projects

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=15_000)  # other work may share the machine
AXE = pytest.importorskip("axe_playwright_python.base").AXE_SCRIPT

TEXT = """# A heading

Some *words*, `code`, $x^2$, [a link](https://example.org).

| a | b |
|---|---|
| 1 | 2 |

```
x = 1
```"""
DIMENSIONS = [{"name": name, "low_label": "bad", "high_label": "good"} for name in ("Helpful", "Harmless")]
FOCUS = """() => {
    const node = document.activeElement;
    const lit = look => look.boxShadow !== 'none'
        || (look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) > 0);
    const around = [node, node.closest('label'), node.nextElementSibling].filter(Boolean);
    return [node.ariaLabel ?? node.innerText.trim(), around.some(one => lit(getComputedStyle(one)))];
}"""  # the name of what has the focus, and whether that can be seen
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def faults(page: Any) -> list[str]:
    """What axe finds that is serious or critical: rule, what is wrong, where; in the dark too."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE)
    found = []
    for scheme, rules in (("dark", {"type": "rule", "values": ["color-contrast"]}), ("light", RULES)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)  # Gradio's shell follows by script, and fades
        page.evaluate(
            "document.getAnimations().forEach(one => one.effect.getTiming().iterations < 9 && one.finish())"
        )
        options = {"resultTypes": ["violations"], "runOnly": rules}
        answer = page.evaluate("options => axe.run(document, options)", options)
        found += [
            f"{scheme}: {rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
            for rule in answer["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"][:3]
        ]
    return found


def ask(store: Store, asks: str, form: dict[str, Any] | None = None, **values: Any) -> None:
    with store.write() as tx:
        tx.execute(update(projects).values(asks=asks, form=form, **values))


def reload(visitor: Visitor) -> Any:
    page = visitor.page
    page.goto("/app/")
    page.wait_for_selector(".rb[data-ready]")
    return page


def close_dialog(page: Any) -> None:
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_plain_pages(visit: Any, store: Store) -> None:
    visitor = visit(None)
    page = visitor.page
    add_people(store, "anna")
    with store.write() as tx:
        invitation = invitations.invite(tx, utcnow(), "annotator", 7, None)
    cookie = {"name": INVITE_COOKIE, "value": invitation, "domain": "127.0.0.1", "path": "/invite"}
    for path in ("/login", "/invite", "/v1/docs"):
        page.goto(path)
        assert faults(page) == [], path
        visitor.context.add_cookies([cookie])
    page.goto("/invite")
    page.get_by_label("Login").fill("anna")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Make my account").click()
    expect(page.get_by_role("alert")).to_contain_text("is taken")
    assert faults(page) == []
    page.goto("/login")
    page.get_by_label("Login").fill("anna")
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    assert faults(page) == []
    session_of(store, "anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(".rb[data-ready]")
    page.goto("/account?done=sessions")
    assert faults(page) == []


def test_the_board(visit: Any, store: Store) -> None:
    """Every form of it, raw and rendered, with every dialog open; then history, and a judgment again."""
    messages = [
        Message("system", "Be brief."),
        Message("user", TEXT),
        Message("assistant", TEXT),
        Message("user", "x"),
    ]
    record = Record(prompt=messages, completions=[Completion(content=f"{TEXT}\n{n}") for n in range(3)])
    imports.import_records(store, [record, *make_records(2)], guideline=TEXT)
    ask(store, "ranking", {"rationale": "required", "rewrite": True, "dimensions": DIMENSIONS})
    visitor = visit()
    page = visitor.open()
    keys = page.keyboard
    assert faults(page) == []
    for key, name in (("?", "Keyboard help"), ("s", "Skip this task"), ("f", "Flag this task")):
        keys.press(key)
        expect(page.get_by_role("dialog", name=name)).to_be_visible()
        assert faults(page) == [], name
        close_dialog(page)
    page.get_by_role("button", name="Account").click()
    assert faults(page) == []
    close_dialog(page)
    keys.press("r")
    keys.press("b")
    keys.press("Escape")
    keys.press("Enter")
    expect(page.locator(".rb-status")).to_contain_text("first")
    assert faults(page) == []
    keys.press("x")
    page.locator("#rb-why").fill("so")
    assert faults(page) == []
    keys.press("Control+Enter")
    expect(page.locator(".rb-status")).to_have_text("Saved.")
    keys.press("h")
    expect(page.get_by_role("heading", name="Your judgments")).to_be_visible()
    assert faults(page) == []
    page.locator(".rb-past").first.click()
    expect(page.get_by_text("You judged this already:")).to_be_visible()
    assert faults(page) == []


def test_pairs_ratings_and_the_screens_before(visit: Any, store: Store) -> None:
    add_tasks(store, 2, outputs=2)
    visitor = visit()
    page = visitor.page
    page.set_viewport_size({"width": 360, "height": 3000})  # a phone; nothing lies under the bars
    for asks, form in (
        ("pair", {"strength": 3, "rationale": "optional"}),
        ("ratings", {"dimensions": DIMENSIONS}),
        ("ranking", None),
    ):
        ask(store, asks, form)
        reload(visitor)
        page.keyboard.press("1")
        assert faults(page) == [], asks
    ask(store, "ranking", consent=TEXT, warning=TEXT)
    for heading, go_on in (("Before you begin", "I agree"), ("Content warning", "Go on")):
        reload(visitor)
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        assert faults(page) == [], heading
        page.get_by_role("button", name=go_on).click()
        expect(page.get_by_role("heading", name=heading)).to_have_count(0)
    page.wait_for_selector('.rb[data-ready="task"]')
    page.evaluate(OPEN_DIALOGS, {"text": "Helpful, and harmless", "html": "<p>Because.</p>"})
    for _ in range(3):
        assert faults(page) == []
        page.keyboard.press("Escape")
    with store.write() as tx:
        tx.execute(update(projects).values(active=False))
    reload(visitor)
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    assert faults(page) == []
    with store.write() as tx:
        tx.execute(update(projects).values(active=True, consent=None, warning=None))
    imports.import_records(store, make_records(1, start=9), project="another")
    tom = visit("tom").open()
    expect(tom.get_by_role("heading", name="Choose a project")).to_be_visible()
    assert faults(tom) == []


def test_the_admin_pages(visit: Any, store: Store, server: Any) -> None:
    """Every page with something on it, its closed parts opened."""
    add_tasks(store, 4, overlap=2)
    imports.import_records(store, make_records(1, start=9), project="another", guideline=TEXT)
    for number, login in enumerate(("ann", "bob")):
        client = client_of(server[0], session_of(store, login))
        client.post("/api/start/project", json={"project": "default"})
        for turn in range(3):
            task = client.post("/api/next", json={}).json()["task"]
            said = {"submit_key": f"{number}{turn}" + "x" * 16, "ranks": [1, 2, 3][:: 1 - 2 * number]}
            said |= {"seconds": 30, "flag": "odd" if turn == 2 else None}
            assert client.post(f"/api/assignments/{task['id']}/judgment", json=said).status_code == 200
    session_of(store, "boss", "admin")
    visitor = visit("boss")
    page = visitor.page
    found = []
    for path, *_ in PAGES:
        page.goto(f"/admin/{path}?project=1")
        expect(page.locator(".ad-pages a")).to_have_count(len(PAGES))
        page.evaluate("document.querySelectorAll('button.label-wrap:not(.open)').forEach(one => one.click())")
        page.wait_for_timeout(200)
        found += [f"{path}: {fault}" for fault in faults(page)]
    visitor.faults[:] = [one for one in visitor.faults if not one.startswith("gradio ")]
    assert found == []


def test_what_a_screen_reader_gets(visit: Any, store: Store) -> None:
    """Names of the page's parts, of cards and positions, of what a button does; changes are announced."""
    add_tasks(store, 1)
    page = visit().open()
    page.keyboard.press("2")
    page.keyboard.press("1")
    snapshot = page.locator("body").aria_snapshot()
    for line in (
        '- heading "Rank 3 outputs" [level=1]',
        '- region "Prompt"',
        '- article "Output A, 2nd"',
        '- article "Output B, 1st"',
        '- article "Output C, not ranked"',
        '- radiogroup "Rank of output A, 1 is best"',
        '- radio "1, best"',
        '- radio "2" [checked]',
        '- radio "3, worst"',
        'button "Better: output A"',
        '- complementary "Guideline"',
        '- region "Your ranking"',
        '- group "Outputs, best first"',
        '- button "Go to output C, not ranked"',
        '- button "Undo"',
        '- button "Raw text"',
        'button "History: your judgments"',
        'button "Keys: keyboard help"',
        'button "Account: anna"',
        "- status",
    ):
        assert line in snapshot, f"{line}\n{snapshot}"
    assert snapshot.count("- main") == 1
    assert snapshot.count("[level=1]") == 1
    announced = page.locator("[aria-live=polite].rb-hidden")
    page.keyboard.press("3")
    expect(announced).to_contain_text("C")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_the_whole_task_by_tab_and_space(visit: Any, store: Store) -> None:
    """As somebody who knows no shortcut: Tab, arrows and Space alone, and where the focus is can be seen."""
    add_tasks(store, 1, outputs=2)
    page = visit().open()
    keys = page.keyboard
    seen: list[str] = []

    def tab_to(name: str) -> None:
        for _ in range(40):
            keys.press("Tab")
            here, outline = page.evaluate(FOCUS)
            seen.append(here)
            assert outline, f"the focus cannot be seen on {here!r}"
            if here.startswith(name):
                return
        raise AssertionError(f"{name} is not reached by Tab: {seen}")

    tab_to("1, best")
    keys.press("Space")
    expect(page.get_by_role("article", name="Output A, 1st")).to_be_visible()
    tab_to("1, best")
    keys.press("ArrowRight")
    expect(page.get_by_role("article", name="Output B, 2nd")).to_be_visible()
    tab_to("Submit")
    keys.press("Space")
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    with store.read() as connection:
        assert connection.execute(judgments.select()).mappings().one()["ranks"] is not None
