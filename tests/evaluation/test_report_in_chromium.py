"""The report as a reader has it: filtered, without scripts, on a phone, printed, with hostile answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.evaluation import stage
from alignment.evaluation.answers import Answer, Prompt
from alignment.evaluation.judges import Verdict

EVIL = "</section><img src=x onerror=alert(1)><script>alert(2)</script>"


class Longer:
    """The longer answer is better."""

    name, statement = "length", "The longer answer wins."

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[Answer], b: Sequence[Answer]) -> list[Verdict]:
        sizes = [(len(x.text), len(y.text)) for x, y in zip(a, b, strict=True)]
        return [Verdict(0.5 + 0.5 * ((x > y) - (x < y))) for x, y in sizes]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """30 prompts: ours is longer on 18, as long on 6, shorter on 6; three of its answers refuse."""
    folder = tmp_path_factory.mktemp("report")
    records = []
    for i in range(30):
        ours = "word " * (i + 2 if i < 18 else 1) + (EVIL if i == 0 else "")
        if i in (3, 4, 5):
            ours = "I'm sorry, but I can't help with that. " + ours
        theirs = {0: ours, 1: ours + "and more"}.get(i % 2, "") if i >= 18 else "word"
        answers = {"ours": ours, "base": theirs}
        completions = [
            Completion(content=text, source=Source("model", name)) for name, text in answers.items()
        ]
        records.append(
            Record(
                [Message("user", f"Question {i}")], id=f"q{i}", completions=completions, demonstrations=[1]
            )
        )
    file = folder / "answers.jsonl"
    write_records(file, records)
    config = {
        "models": {"ours": str(file), "base": str(file)}, "comparisons": [["ours", "base"]],
        "prompts": [str(file)], "judge": {"kind": "program"}, "run": {"dir": str(folder / "run")},
    }  # fmt: skip
    stage.run(stage.Config.model_validate(config), judge=Longer())
    return (folder / "run" / "report.html").as_uri()


def opened(chromium: Any, report: str, **options: Any) -> Any:
    page = chromium.new_context(**options).new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: page.problems.append(dialog.message))
    page.on("request", lambda request: page.problems.append(request.url) if request.url != report else None)
    page.goto(report)
    return page


def titles(page: Any) -> list[str]:
    return [text for text in page.locator(".sample h3").all_inner_texts() if text]


def test_samples_are_chosen_by_who_won_by_refusals_and_by_length(chromium: Any, report: str) -> None:
    page = opened(chromium, report)
    said = page.locator(".filters output")
    assert said.inner_text() == "10 of 30 shown"
    assert page.locator("option").all_inner_texts() == [
        "all (30)", "won (18)", "tied (6)", "lost (6)", "ours refuses (3)",
    ]  # fmt: skip
    page.locator("select").select_option(label="lost (6)")
    assert said.inner_text() == "6 of 6 shown"
    assert set(titles(page)) == {f"Prompt q{i}" for i in range(19, 30, 2)}
    page.locator("select").select_option(label="ours refuses (3)")
    assert set(titles(page)) == {"Prompt q3", "Prompt q4", "Prompt q5"}
    page.locator("select").select_option(label="won (18)")
    page.get_by_label("longest first").check()
    assert titles(page)[:2] == ["Prompt q17", "Prompt q16"]
    assert len(titles(page)) == 10
    page.get_by_role("button", name="Show 10 more").click()
    assert len(titles(page)) == 18
    assert page.get_by_role("button", name="Show 10 more").is_hidden()
    page.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
    assert page.problems == [], "no script ran but the page's own, and nothing was asked of anybody"


def test_without_scripts_nothing_is_missing(chromium: Any, report: str) -> None:
    page = opened(chromium, report, java_script_enabled=False)
    assert page.locator(".filters").is_hidden()
    assert len(titles(page)) == 10
    page.get_by_text("20 more").click()
    assert len(titles(page)) == 30
    assert page.locator(".verdict strong").first.inner_text().startswith("ours looks better than base")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_and_in_print(chromium: Any, report: str, scheme: Any) -> None:
    page = opened(chromium, report, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    box = page.locator(".verdict strong").first.bounding_box()
    assert box["y"] + box["height"] < 640, "who won is on the first screen"
    page.emulate_media(media="print")
    assert page.locator(".filters").is_hidden()
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_that_a_reader_with_aids_would_miss(chromium: Any, report: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(chromium, report, viewport={"width": width, "height": 800}, bypass_csp=True)
    found = [
        (problem["id"], node["html"][:200])
        for problem in axe.run(page).response["violations"]
        for node in problem["nodes"]
    ]
    assert found == []
