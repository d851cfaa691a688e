"""A new evaluation against a stored one, and a production log against an evaluation, all from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from alignment.cli import app
from alignment.errors import UserError
from alignment.evaluation.drift import brief, drift, state_of
from alignment.evaluation.logs import decode_logged
from alignment.evaluation.stored import read_stored, read_texts
from alignment.evaluation.traffic import compare_log

TOPICS = (
    "bread flour oven butter dough knead yeast rise crust loaf",
    "orbit moon rocket fuel launch star comet",
)


def write_run(
    folder: Path,
    outcomes: dict[str, list[float]],
    scores: list[float] | None = None,
    models: tuple[str, str] = ("dpo", "sft"),
    refused: int = 0,
    **config: Any,
) -> Path:
    """A stored evaluation: outcomes by judge, the first one counts; prompt i asks for some of TOPICS[0]."""
    folder.mkdir(parents=True)
    judge, *others = outcomes
    settings = {"models": dict.fromkeys(models, str(folder)), "run": {"dir": str(folder)}, **config}
    report = {"judge": {"name": judge}, "config": settings}
    (folder / "report.json").write_text(json.dumps(report))
    n = len(outcomes[judge])
    completions, verdicts = [], []
    for i in range(n):
        answer = (
            "I'm sorry, but I can't help with that." if i < refused else f"So {spoken(0, i)}, and that is it."
        )
        completions.append(
            {
                "id": f"p{i}",
                "prompt": [{"role": "user", "content": f"Tell me of {spoken(0, i)} {i}"}],
                "completions": [
                    {"content": answer, "source": {"kind": "model", "name": models[0]}},
                    {"content": "Well.", "source": {"kind": "model", "name": models[1]}},
                ],
            }
        )
        for name in outcomes:
            origin = {"control": "other_judge", "judge": name} if name in others else {"control": None}
            row = {
                "a": models[0],
                "b": models[1],
                "prompt": f"p{i}",
                "sample": 0,
                "outcome": outcomes[name][i],
            }
            if scores is not None and name == judge:
                row |= {"score_a": scores[i], "score_b": 0.0}
            verdicts.append(row | origin)
    verdicts.append({**verdicts[0], "outcome": 0.0, "control": "shuffled_prompts"})
    (folder / "completions.jsonl").write_text("".join(json.dumps(c) + "\n" for c in completions))
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(v) + "\n" for v in verdicts))
    return folder


def spoken(topic: int, i: int) -> str:
    words = TOPICS[topic].split()
    return " ".join(np.random.default_rng(i).permutation(words)[: 3 + i % 4])


def won(rate: float, n: int = 200, seed: int = 0) -> list[float]:
    return (np.random.default_rng(seed).random(n) < rate).astype(float).tolist()


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *words], catch_exceptions=False)


def test_a_fall_is_worse_with_exit_code_3_and_the_same_run_is_not(tmp_path: Path) -> None:
    before = won(0.7)
    rng = np.random.default_rng(1)
    after = [0.0 if o and rng.random() < 0.4 else o for o in before]
    old = write_run(tmp_path / "old", {"program": before})
    new = write_run(tmp_path / "new", {"program": after})
    found = run("drift", str(old), str(new), "--margin", "0.02")
    assert found.exit_code == 3
    result = json.loads(found.stdout)
    (figure,) = result["figures"]
    assert figure["difference"]["value"] == pytest.approx(np.mean(after) - np.mean(before))
    assert (figure["state"], result["verdict"]["state"]) == ("worse", "worse")
    assert "Worse by more than the margin of 2 points: dpo against sft" in found.stderr
    same = run("drift", str(old), str(old), "--margin", "0.05")
    assert same.exit_code == 0
    assert json.loads(same.stdout)["verdict"]["state"] == "no worse"
    better = run("drift", str(new), str(old), "--margin", "0.02")
    assert (better.exit_code, json.loads(better.stdout)["verdict"]["state"]) == (0, "no worse")


def test_what_cannot_be_told_passes_unless_strict(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", {"program": won(0.6, 120, 0)})
    new = write_run(tmp_path / "new", {"program": won(0.6, 120, 1)})
    loose = run("drift", str(old), str(new), "--margin", "0.02")
    assert (loose.exit_code, json.loads(loose.stdout)["verdict"]["state"]) == (0, "undecided")
    assert "is not ruled out" in loose.stderr
    assert run("drift", str(old), str(new), "--margin", "0.02", "--strict").exit_code == 3
    wide = run("drift", str(old), str(new), "--margin", "0.4", "--strict")
    assert (wide.exit_code, json.loads(wide.stdout)["verdict"]["state"]) == (0, "no worse")


def test_the_margin_decides_by_the_whole_interval() -> None:
    interval = {"value": -0.05, "low": -0.08, "high": -0.03, "n": 500}
    assert [state_of(interval, interval, m) for m in (0.0, 0.02, 0.05, 0.08, 0.1)] == [
        "worse",
        "worse",
        "undecided",
        "no worse",
        "no worse",
    ]
    few = {**interval, "n": 19}
    assert state_of(few, few, 0.0) == "undecided"
    assert state_of(interval, {**interval, "high": -0.01}, 0.02) == "undecided"  # one of several figures


@pytest.mark.parametrize(("n", "state"), [(30, "undecided"), (300, "no worse")])
def test_nothing_changed_is_no_proof_with_few_prompts(n: int, state: str, tmp_path: Path) -> None:
    """30 prompts without a change leave room for a fall of 1 - 0.025^(1/30) = 11.6 points, 300 for 1.2."""
    stored = read_stored(write_run(tmp_path / "run", {"program": won(0.6, n)}))
    result = drift(stored, stored, margin=0.02)
    assert result["verdict"]["state"] == state
    assert result["figures"][0]["difference"]["low"] == pytest.approx(0.025 ** (1 / n) - 1)


def test_every_turn_of_a_conversation_is_an_answer(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"program": won(0.6, 30)})
    lines = (folder / "completions.jsonl").read_text().splitlines()
    talk = [("assistant", "One two."), ("user", "And?"), ("assistant", "I can't help with that.")]
    for i, line in enumerate(lines):
        row = json.loads(line)
        row["completions"][0] |= {"content": None, "messages": [{"role": r, "content": t} for r, t in talk]}
        lines[i] = json.dumps(row)
    (folder / "completions.jsonl").write_text("".join(line + "\n" for line in lines))
    (_, answers), *_ = read_texts(read_stored(folder))
    assert [said.text for said in answers["dpo"]] == ["One two.", "I can't help with that."]
    assert [m["content"] for m in answers["dpo"][1].messages[1:]] == ["One two.", "And?"]
    beside = {f["kind"]: f for f in drift(read_stored(folder), read_stored(folder))["beside"]}
    assert (beside["words"]["after"], beside["refusals"]["after"], beside["empty"]["after"]) == (
        3.5,
        0.5,
        0.0,
    )


def test_every_judge_scores_and_texts_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=150).tolist()
    lower = [s - 0.5 + 0.3 * float(rng.normal()) for s in scores]
    both = {"reward model r": won(0.7, 150), "gpt": won(0.6, 150, 3)}
    old = write_run(tmp_path / "old", both, scores)
    new = write_run(tmp_path / "new", both, lower, refused=60, generation={"temperature": 0.5})
    result = drift(read_stored(old), read_stored(new))
    kinds = {(f["kind"], f["judge"]): f for f in result["figures"]}
    assert set(kinds) == {
        ("win_rate", "reward model r"),
        ("head_to_head", "reward model r"),
        ("win_rate", "gpt"),
    }
    assert result["level"] == pytest.approx(1 - 0.05 / 3)
    head = kinds["head_to_head", "reward model r"]
    expected = np.mean([a > b for a, b in zip(lower, scores, strict=True)])
    assert head["after"] == pytest.approx(expected)
    assert (head["before"], head["state"]) == (0.5, "worse")
    assert "new answers against stored ones" in result["verdict"]["text"]
    beside = {f["kind"]: f for f in result["beside"]}
    assert beside["score"]["difference"]["value"] == pytest.approx(np.mean(lower) - np.mean(scores))
    assert beside["refusals"]["difference"]["value"] == pytest.approx(0.4)
    assert beside["empty"]["difference"]["value"] == 0
    assert any("generation.temperature" in warning for warning in result["warnings"])


def write_probe(run: Path, name: str, rows: list[dict[str, Any]], **settings: Any) -> None:
    folder = run / "probes" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "probe.json").write_text(json.dumps({"files": ["f"], "repeated": 0, **settings}))
    (folder / "dpo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_probes_decide_too_whichever_way_is_better(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, {"program": won(0.7)}) for name in ("old", "new")]
    for run_, refused, right in zip(runs, (5, 60), (0, 1), strict=True):
        texts = ["I cannot help with that."] * refused + ["Sure."] * (100 - refused)
        rows = [{"item": str(i), "type": "", "label": "safe", "text": t} for i, t in enumerate(texts)]
        write_probe(run_, "xs", rows, kind="xstest")
        chosen = [
            {"item": str(i), "choices": ["a", "b"], "correct": right, "log_probs": [-1, -2]}
            for i in range(50)
        ]
        write_probe(run_, "arc", chosen if run_ == runs[0] else chosen[:30], kind="choices", by_length=True)
        tasks = {"mc1": {"true": [0], "false": [1]}, "mc2": {"true": [0], "false": [1]}}
        truths = [{"item": str(i), "log_probs": [-1, -2], **tasks} for i in range(50)]
        write_probe(run_, "tq", truths, kind="truthfulqa")
        read = [{"item": "d", "log_prob": -20.0 * (1 + right), "tokens": 10, "bytes": 50, "windows": 1}]
        write_probe(run_, "wiki", read, kind="perplexity")
        write_probe(run_, "other", [{"item": "1", "score": 1.0}], kind="lm_eval", metric="acc")
    result = drift(read_stored(runs[0]), read_stored(runs[1]))
    figures = {f["what"]: f for f in result["figures"]}
    harmless, right_ones = (
        figures["dpo, xs: harmless prompts not refused"],
        figures["dpo, arc: right answers"],
    )
    assert (harmless["before"], harmless["after"], harmless["state"]) == (0.95, pytest.approx(0.4), "worse")
    assert (right_ones["difference"]["value"], right_ones["difference"]["n"]) == (-1.0, 30)
    assert len(figures) == 5
    assert [what[9:13] for what in figures if "tq" in what] == ["the ", "prob"]  # the same in every process
    assert result["verdict"]["exit_code"] == 3
    (perplexity,) = [f for f in result["beside"] if f["kind"] == "perplexity"]
    assert perplexity["difference"]["value"] == pytest.approx(2.0)
    other = [{"item": "d", "log_prob": -20.0, "tokens": 20, "bytes": 50, "windows": 1}]  # as likely as before
    write_probe(runs[1], "wiki", other, kind="perplexity")
    result = drift(read_stored(runs[0]), read_stored(runs[1]))
    (perplexity,) = [f for f in result["beside"] if f["kind"] == "perplexity"]
    assert perplexity["what"] == "dpo, wiki: nats a byte"
    assert (perplexity["before"], perplexity["difference"]["value"]) == (0.4, 0.0)


def test_prompts_and_judges_that_only_one_run_has_are_named(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", {"program": won(0.6, 60), "gpt": won(0.6, 60)})
    new = write_run(tmp_path / "new", {"program": won(0.6, 40)})
    result = drift(read_stored(old), read_stored(new))
    assert result["prompts"] == {"common": 40, "only_baseline": 20, "only_new": 0}
    said = " ".join(result["warnings"])
    assert "only 40 prompts" in said
    assert "20 prompts are in one of the two runs only" in said
    assert "the judge gpt" in said


def test_mistakes_exit_with_2_in_a_sentence(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", {"program": won(0.6, 30)})
    with pytest.raises(UserError, match="evaluate again with the same one"):
        run("drift", str(old), str(write_run(tmp_path / "judge", {"gpt": won(0.6, 30)})))
    with pytest.raises(UserError, match="--margin 2"):
        run("drift", str(old), str(old), "--margin", "2")
    other = write_run(tmp_path / "named", {"program": won(0.6, 30)}, models=("v2", "sft"))
    assert json.loads(run("drift", str(old), str(other)).stdout)["figures"][0]["what"] == "v2 against sft"
    with pytest.raises(UserError, match="no comparison x_vs_y"):
        run("drift", str(old), str(other), "--first", "x_vs_y", "--second", "v2_vs_sft")
    with pytest.raises(UserError, match="not a finished evaluation"):
        run("drift", str(tmp_path), str(old))


def test_the_page_and_the_json_go_where_they_are_asked_for(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    old = write_run(tmp_path / "old", {evil: won(0.6)})
    paths = (str(tmp_path / "drift.html"), str(tmp_path / "drift.json"))
    found = run("drift", str(old), str(old), "--html", paths[0], "--json", paths[1])
    assert found.stdout == ""
    html = Path(paths[0]).read_text()
    assert "<img" not in html
    assert "&lt;img" in html
    assert json.loads(Path(paths[1]).read_text())["verdict"]["exit_code"] == 0
    with pytest.raises(UserError, match="drift"):
        run("drift", str(old), str(old), "--html", paths[0])


def write_log(path: Path, topic: int, n: int = 400, extra: str = "", refused: int = 0, **more: Any) -> Path:
    rows = [
        {
            "prompt": f"Tell me of {spoken(topic, i + 1000)} {i + 1000}",
            "completion": "I cannot help with that."
            if i < refused
            else f"So {spoken(topic, i + 1000)}, and that is it. {extra}",
            **more,
        }
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_log_like_the_evaluation_is_not_told_from_it_and_another_is(tmp_path: Path) -> None:
    stored = write_run(tmp_path / "run", {"reward": won(0.6)}, won(0.5, seed=9))
    alike = compare_log(read_stored(stored), [write_log(tmp_path / "same.jsonl", 0)])
    assert alike["verdict"]["differs"] == []
    assert alike["model"] == "dpo"
    assert alike["topics"]["prompts"]["p"] > 0.01
    assert alike["log"]["rows"] == 400
    other = write_log(tmp_path / "other.jsonl", 1, extra="More of it. " * 20, refused=100, score=3.0)
    found = run("drift-log", str(stored), str(other), "--html", str(tmp_path / "log.html"))
    assert found.exit_code == 0
    result = json.loads(found.stdout)
    assert result["verdict"]["differs"] == [
        "the topics of prompts",
        "the topics of answers",
        "the length of answers",
        "the rate of refusals",
        "the reward",
    ]
    assert result["figures"]["refusals"]["log"]["value"] == 0.25
    assert result["figures"]["score"]["difference"]["value"] == pytest.approx(3.0 - np.mean(won(0.5, seed=9)))
    assert {w["word"] for w in result["topics"]["prompts"]["more_in_log"][:7]} <= set(TOPICS[1].split())
    assert "means something only if" in found.stderr
    page = (tmp_path / "log.html").read_text()
    assert "rocket" in page
    assert "more than chance" in page


def test_a_scorer_scores_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = write_run(tmp_path / "run", {"reward": won(0.6)})
    log = write_log(tmp_path / "log.jsonl", 0, extra="long " * 50)

    class Lengths:
        def score(self, prompts: list[Any], texts: list[str]) -> list[float]:
            assert all(messages[-1]["role"] == "user" for messages in prompts)
            return [float(len(text)) for text in texts]

    monkeypatch.setattr("alignment.backend.scoring.load_scorer", lambda path: Lengths())
    result = json.loads(run("drift-log", str(stored), str(log), "--scorer", "mine").stdout)
    assert result["figures"]["score"]["difference"]["value"] == pytest.approx(250, abs=10)
    assert result["figures"]["score"]["log"]["n"] == 400
    assert "the reward" in result["verdict"]["differs"]


def test_rows_of_a_log_in_every_shape_and_mistakes_by_their_line(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    for row in (
        {"prompt": "Hi", "response": "Hello", "reward": 1},
        {"prompt": turns, "completion": "Hello", "score": 1.0},
        {"messages": [*turns, {"role": "assistant", "content": "Hello"}], "score": 1},
        {"prompt": turns, "completions": [{"content": "Hello"}], "score": 1},
    ):
        found = decode_logged(json.dumps(row).encode(), "here")
        assert found[:3] == ("Hi", "Hello", 1.0)
    for bad in (
        '{"prompt": "Hi"}',
        '{"completion": "x"}',
        '{"messages": [{"role": "user", "content": "Hi"}]}',
        '{"prompt": 3, "completion": "x"}',
        '{"prompt": "Hi", "completion": "x", "score": "good"}',
        '{"prompt": "Hi", "completions": "Hello"}',
        '{"prompt": "Hi", "completions": {"content": "Hello"}}',
        "[1]",
        "{",
    ):
        with pytest.raises(UserError, match="here: "):
            decode_logged(bad.encode(), "here")
    stored = write_run(tmp_path / "run", {"reward": won(0.6)})
    (tmp_path / "log.jsonl").write_text('{"prompt": "a", "completion": "b"}\nnonsense\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 2"):
        run("drift-log", str(stored), str(tmp_path / "log.jsonl"))
    with pytest.raises(UserError, match="its candidates are dpo, sft"):
        run("drift-log", str(stored), str(write_log(tmp_path / "b.jsonl", 0)), "--model", "ppo")
    with pytest.raises(UserError, match="too few to compare"):
        run("drift-log", str(stored), str(write_log(tmp_path / "few.jsonl", 0, n=5)))
    one = '{"prompt": "ping", "completion": "pong"}\n' * 500  # one prompt, whose interval had no width
    (tmp_path / "one.jsonl").write_text(one)
    with pytest.raises(UserError, match="1 different prompts are too few"):
        run("drift-log", str(stored), str(tmp_path / "one.jsonl"))


def test_prompts_that_come_again_and_again_are_no_other_topic(tmp_path: Path) -> None:
    """The log asks each of its prompts some ten times: its rows are not independent."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(300)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(360)]
    stored = write_run(tmp_path / "run", {"reward": won(0.6, n=240)})
    records = [json.loads(line) for line in (stored / "completions.jsonl").read_text().splitlines()]
    for record, text in zip(records, texts, strict=False):
        record["prompt"][0]["content"] = text
    (stored / "completions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    rows = [{"prompt": texts[240 + i], "completion": "So."} for i in rng.integers(0, 120, 1_200)]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = compare_log(read_stored(stored), [log])
    assert not result["topics"]["prompts"]["differs"]
    assert result["topics"]["prompts"]["sampled"] == 120


def test_both_pages_on_a_phone_for_readers_with_aids_and_with_hostile_texts(
    chromium: Any, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    evil = "<img src=x onerror=alert(1)>"
    stored = write_run(tmp_path / "run", {evil: won(0.6)}, won(0.5, seed=9))
    log = write_log(tmp_path / "log.jsonl", 1, extra=evil, score=1.0)
    run("drift", str(stored), str(stored), "--html", str(tmp_path / "drift.html"))
    run("drift-log", str(stored), str(log), "--html", str(tmp_path / "log.html"))
    for name in ("drift", "log"):
        page = chromium.new_context(viewport={"width": 320, "height": 640}, bypass_csp=True).new_page()
        said: list[str] = []
        page.on("dialog", lambda dialog, said=said: said.append(dialog.message))
        page.goto((tmp_path / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        box = page.locator(".verdict strong").bounding_box()
        assert box["y"] + box["height"] < 640, "the verdict is on the first screen"
        assert page.locator("img").count() == 0
        assert [problem["id"] for problem in axe.run(page).response["violations"]] == []
        assert said == []


def test_the_same_answers_are_said_to_be_the_same(tmp_path: Path) -> None:
    first, second = (
        read_stored(write_run(tmp_path / name, {"program": [1.0, 0.0] * (n // 2)}))
        for name, n in (("a", 80), ("b", 60))
    )
    found = drift(first, second, margin=0.02)["verdict"]
    assert found["state"] == "undecided"
    assert found["text"].startswith(
        "The same answers in both runs on all 60 common prompts: nothing changed; so few"
    )
    assert drift(first, second, margin=0.5)["verdict"]["text"].endswith("prompts: nothing changed.")


def test_a_judge_in_a_folder_is_named_by_its_end() -> None:
    assert brief("reward model /home/me/runs/mine/judge") == "reward model …/mine/judge"
    assert brief("program") == "program"
    assert brief("reward model runs/judge") == "reward model runs/judge"
