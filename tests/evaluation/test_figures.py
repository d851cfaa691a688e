"""Figures that need no model: power, annotations, leaderboards, two runs side by side, all from files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from alignment.cli import app
from alignment.errors import UserError
from alignment.evaluation.annotations import annotation_figures, read_annotations
from alignment.evaluation.standings import compare_runs, leaderboards, markdown
from alignment.evaluation.statistics import comparison_figures, remarks_of, stored_figures
from alignment.evaluation.stored import find_stored, read_stored
from alignment.stats import holm, win_rate

Rows = list[tuple[str, str, int, float | None]]  # a, b, prompt, outcome


def write_run(folder: Path, rows: Rows, judge: str = "program", first_id: int = 0, **config: Any) -> Path:
    """What an evaluation leaves; prompt i has the text "say i" and the id p(i + first_id)."""
    folder.mkdir(parents=True)
    names = sorted({n for a, b, _, _ in rows for n in (a, b)})
    settings = {"models": {n: f"models/{n}" for n in names}, "run": {"dir": str(folder)}, **config}
    (folder / "report.json").write_text(json.dumps({"judge": {"name": judge}, "config": settings}))
    prompts = sorted({i for _, _, i, _ in rows})
    completions = [
        {
            "id": f"p{i + first_id}",
            "prompt": [{"role": "user", "content": f"say {i}"}],
            "completions": [
                {"content": "word " * (10 + (i * (k + 3)) % 17), "source": {"kind": "model", "name": name}}
                for k, name in enumerate(names)
            ],
        }
        for i in prompts
    ]
    (folder / "completions.jsonl").write_text("".join(json.dumps(c) + "\n" for c in completions))
    verdicts = [
        {
            "a": a,
            "b": b,
            "prompt": f"p{i + first_id}",
            "sample": 0,
            "outcome": o,
            "score_a": None,
            "control": None,
        }
        for a, b, i, o in rows
    ]
    control = [{**v, "outcome": 1.0, "control": "shuffled_prompts"} for v in verdicts]
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(v) + "\n" for v in verdicts + control))
    return folder


def judged(a: str, b: str, edge: float, n: int, seed: int, ties: float = 0.1) -> Rows:
    rng = np.random.default_rng(seed)
    tied, won = rng.random(n) < ties, rng.random(n) < expit(edge)
    return [(a, b, i, 0.5 if tied[i] else float(won[i])) for i in range(n)]


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", *words], catch_exceptions=False)


def test_power_prints_both_numbers() -> None:
    assert "0.55: 783 comparisons" in run("power", "--rate", "0.55").stdout
    assert "820 by the exact" in run("power", "--rate", "0.55").stdout
    table = json.loads(run("power", "--json").stdout)["rows"]
    found = {row["rate"]: (row["normal"], row["exact"]) for row in table}
    assert (found[0.6], found[0.65]) == ((194, 210), (85, 97))
    (row,) = json.loads(run("power", "--n", "783", "--json").stdout)["rows"]
    assert row["normal"] == pytest.approx(0.55, abs=1e-4)
    assert row["exact"] > row["normal"]
    (row,) = json.loads(run("power", "--n", "820", "--rate", "0.55", "--json").stdout)["rows"]
    assert row["exact"] >= 0.8
    assert "625 comparisons" in run("power", "--rate", "0.55", "--ties", "0.2").stdout
    for words in (
        ["--rate", "0.5"],
        ["--rate", "2"],
        ["--ties", "1"],
        ["--ties", "0.98"],
        ["--power", "0.01"],
    ):
        with pytest.raises(UserError):
            run("power", *words)


def test_the_figures_of_one_comparison() -> None:
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(200), 2)
    outcomes = rng.choice([0, 0.5, 1], p=[0.2, 0.2, 0.6], size=400)
    found = comparison_figures(outcomes, prompts, rng.integers(50, 90, 400), rng.integers(50, 90, 400))
    json.dumps(found, allow_nan=False)
    assert found["win_rate"]["rate"] == found["exact"]["rate"] == pytest.approx(outcomes.mean())
    assert found["wins"] + found["losses"] + found["ties"] == 400
    assert found["prompts"]["n"] == found["exact"]["n"] == 200
    assert found["p"] < 1e-6
    assert found["sequential"]["decided_at"] < 200
    assert found["sequential"]["n"][-1] == 200
    assert found["length_controlled"]["rate"] == pytest.approx(0.7, abs=0.06)
    assert not found["length_controlled"]["explains_the_result"]
    assert found["over_seeds"] is None
    assert remarks_of("a", "b", found) == []


def test_what_was_not_found_is_said_with_the_power_it_had() -> None:
    outcomes = [1.0] * 26 + [0.0] * 22 + [0.5] * 12
    (remark,) = remarks_of("dpo", "sft", comparison_figures(outcomes, range(60)))
    assert "With 60 prompts, 20% of them ties" in remark
    assert "it would take" in remark
    (remark,) = remarks_of("dpo", "sft", comparison_figures([1, 0, 1], range(3)))
    assert "3 prompts are too few" in remark
    figures = comparison_figures([0.5] * 8, range(8))
    assert figures["power"]["needed"] is None
    json.dumps(figures, allow_nan=False)
    (remark,) = remarks_of("dpo", "sft", figures)
    assert "tied on every prompt" in remark


def test_length_is_named_where_it_may_explain_the_win() -> None:
    rng = np.random.default_rng(1)
    longer = rng.normal(200, 300, 500)
    outcomes = (rng.random(500) < expit(2 * np.tanh(longer / 300))).astype(float)
    found = comparison_figures(outcomes, range(500), 600 + longer, np.full(500, 600.0))
    (remark,) = remarks_of("ppo", "sft", found)
    assert "Length may explain the result of ppo against sft: the judge prefers longer" in remark


def test_training_seeds_are_drawn_too_where_they_are_given() -> None:
    rng = np.random.default_rng(2)
    seeds, prompts = np.repeat(np.arange(4), 100), np.tile(np.arange(100), 4)
    outcomes = (rng.random(400) < np.array([0.4, 0.5, 0.7, 0.8])[seeds]).astype(float)
    found = comparison_figures(outcomes, prompts, seeds=seeds)
    alone = found["win_rate"]
    assert found["over_seeds"]["n"] == 4
    assert found["over_seeds"]["value"] == pytest.approx(alone["rate"])
    assert found["over_seeds"]["high"] - found["over_seeds"]["low"] > 1.5 * (alone["high"] - alone["low"])
    with pytest.raises(ValueError, match="every prompt"):
        comparison_figures(outcomes[1:], prompts[1:], seeds=seeds[1:])


def test_prompt_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    outcomes, lengths = rng.choice([0, 0.5, 1], size=90), rng.integers(1, 99, (2, 90))
    order = rng.permutation(90)
    here = comparison_figures(outcomes, np.arange(90), *lengths)
    there = comparison_figures(outcomes[order], np.arange(90)[order], *lengths[:, order])
    assert json.dumps(here["sequential"]) == json.dumps(there["sequential"])
    assert there["win_rate"] == pytest.approx(here["win_rate"])
    assert there["length_controlled"]["low"] == pytest.approx(here["length_controlled"]["low"])


def test_a_run_is_computed_again_from_its_verdicts(tmp_path: Path) -> None:
    rows = (
        judged("dpo", "sft", 0.9, 150, 0) + judged("sft", "base", 0.0, 150, 1) + [("dpo", "sft", 999, None)]
    )
    words = run("verdicts", str(write_run(tmp_path / "run", rows)))
    result = json.loads(words.stdout)
    outcomes = [o for a, _, _, o in rows if a == "dpo" and o is not None]
    names = [f"p{i}" for i in range(150)]
    mine = result["comparisons"]["dpo_vs_sft"]
    again = win_rate(outcomes, names)
    assert {k: mine["win_rate"][k] for k in ("rate", "n", "ties")} == {
        "rate": again.rate,
        "n": again.n,
        "ties": again.ties,
    }
    assert mine["win_rate"]["low"] == pytest.approx(again.low)
    ps = [f["p"] for f in result["comparisons"].values()]
    assert [f["p_holm"] for f in result["comparisons"].values()] == pytest.approx(list(holm(ps)))
    assert mine["length_controlled"]["n"] == 150
    assert result["unread"] == 1
    assert "With 150 prompts" in words.stderr
    assert "1 verdicts could not be read" in words.stderr
    (tmp_path / "run" / "completions.jsonl").unlink()
    assert (
        stored_figures(read_stored(tmp_path / "run"))["comparisons"]["dpo_vs_sft"]["length_controlled"]
        is None
    )


def test_a_leaderboard_of_several_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "one", judged("dpo", "sft", 0.7, 300, 0) + judged("sft", "base", 0.8, 300, 1))
    write_run(tmp_path / "deep" / "two", judged("ppo", "base", 2.2, 300, 2), first_id=50)
    write_run(tmp_path / "other", judged("x", "y", 0.5, 60, 3), judge="reward")
    big, small = leaderboards(find_stored([tmp_path]))
    assert [m["name"] for m in big["models"]] == ["ppo", "dpo", "sft", "base"]
    assert [m["rank"] for m in big["models"]] == [1, 2, 3, 4]
    assert (big["comparisons"], big["prompts"], small["judge"]) == (
        900,
        300,
        "reward",
    )  # same texts, other ids
    assert big["chances"][0][3] == pytest.approx(expit(2.2 * 0.9), abs=0.06)
    words = run("leaderboard", str(tmp_path), "--markdown", str(tmp_path / "board.md"))
    assert json.loads(words.stdout) == {"leaderboards": [big, small]}
    assert (tmp_path / "board.md").read_text() == markdown([big, small])
    assert "from 1 evaluation;" in markdown([small])
    assert "No comparison connects" not in markdown([big, small])
    assert markdown([small, small]).count("No comparison connects these models") == 2
    assert "| 1 (1 to 2) | ppo |" in markdown([big]) or "| 1 | ppo |" in markdown([big])
    with pytest.raises(UserError, match=r"board\.md"):
        run("leaderboard", str(tmp_path), "--markdown", str(tmp_path / "board.md"))


def test_a_run_that_repeats_another_is_told(tmp_path: Path) -> None:
    rows = judged("dpo", "sft", 0.7, 80, 0)
    for name, some in (("all", rows), ("subset", rows[:30])):
        write_run(tmp_path / name, some)
    (table,) = leaderboards(find_stored([tmp_path]))
    assert (table["comparisons"], table["prompts"], table["repeated"]) == (110, 80, 30)
    assert "30 comparisons are of a pair on a prompt that another" in markdown([table])


def test_one_name_for_two_models_is_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "1", judged("dpo", "base", 0.7, 80, 0), models={"dpo": "runs/1", "base": "b"})
    write_run(tmp_path / "2", judged("dpo", "base", 0.1, 80, 1), models={"dpo": "runs/2", "base": "b"})
    (table,) = leaderboards(find_stored([tmp_path]))
    assert {m["name"] for m in table["models"]} == {"dpo (runs/1)", "dpo (runs/2)", "base"}


def test_a_change_that_the_exact_test_leaves_to_chance_is_said_so(tmp_path: Path) -> None:
    before = [("dpo", "base", i, 0.0) for i in range(40)]
    after = [("dpo", "base", i, float(i < 4)) for i in range(40)]
    runs = [write_run(tmp_path / str(i), rows) for i, rows in enumerate((before, after))]
    (row,) = compare_runs(*map(read_stored, runs))["comparisons"]
    assert row["difference"]["low"] > 0
    assert "but that may be chance (sign test p = 0.12)" in row["text"]


def test_two_runs_are_paired_over_their_common_prompts(tmp_path: Path) -> None:
    before = judged("dpo", "base", 0.2, 400, 0)
    rng = np.random.default_rng(5)
    after = [(a, b, i, 1.0 if o != 1 and rng.random() < 0.3 else o) for a, b, i, o in before[50:]]
    after += [("dpo", "base", 1_000, None)]
    first = read_stored(write_run(tmp_path / "a", before, seed=1))
    second = read_stored(write_run(tmp_path / "b", after, judge="reward model r", first_id=7, seed=2))
    assert second.unread == 1
    result = compare_runs(first, second)
    (row,) = result["comparisons"]
    assert row["prompts"] == {"common": 350, "only_first": 50, "only_second": 0}
    gain = np.mean([x[3] for x in after[:-1]]) - np.mean([x[3] for x in before[50:]])
    assert row["difference"]["value"] == pytest.approx(gain)
    assert row["difference"]["low"] > 0
    assert row["losses"] == 0
    assert "dpo_vs_base: the win rate rose by" in row["text"]
    wide = row["win_rates"][1]["high"] - row["win_rates"][1]["low"]
    assert row["difference"]["high"] - row["difference"]["low"] < wide  # paired
    assert [d["what"] for d in result["differs"]] == ["judge", "seed"]
    words = run("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert json.loads(words.stdout) == result
    assert "the judges differ" in words.stderr
    back = compare_runs(second, first)["comparisons"][0]
    assert back["difference"]["value"] == pytest.approx(-row["difference"]["value"])
    assert "fell" in back["text"]


def test_runs_with_the_same_answers_are_said_to_have_them(tmp_path: Path) -> None:
    rows = judged("dpo", "base", 0.2, 80, 0)
    first, second = (read_stored(write_run(tmp_path / name, rows[:n])) for name, n in (("a", 80), ("b", 60)))
    (row,) = compare_runs(first, second)["comparisons"]
    assert row["text"].startswith("dpo_vs_base: the same answers in both runs on 60 common prompts")
    text = (tmp_path / "b/completions.jsonl").read_text()
    (tmp_path / "b/completions.jsonl").write_text(text.replace("word ", "words "))
    (row,) = compare_runs(first, second)["comparisons"]
    assert "no change can be told" in row["text"]


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", judged("dpo", "base", 0.2, 20, 0) + judged("sft", "base", 0.2, 20, 0))
    b = write_run(tmp_path / "b", judged("ppo", "base", 0.2, 20, 1))
    with pytest.raises(UserError, match="--first and --second"):
        run("compare", str(a), str(b))
    words = run("compare", str(a), str(b), "--first", "dpo_vs_base", "--second", "ppo_vs_base")
    assert "ppo_vs_base against dpo_vs_base" in words.stderr
    with pytest.raises(UserError, match="no comparison x_vs_y"):
        run("compare", str(a), str(b), "--first", "x_vs_y", "--second", "ppo_vs_base")
    strange = [("ppo", "base", i + 500, 1.0) for i in range(5)]
    with pytest.raises(UserError, match="no prompt in common"):
        compare_runs(read_stored(b), read_stored(write_run(tmp_path / "c", strange)))
    (b / "verdicts.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match=r"verdicts.jsonl, line 1"):
        read_stored(b)
    (b / "report.json").unlink()
    with pytest.raises(UserError, match=r"no report\.json"):
        read_stored(b)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no finished evaluation"):
        find_stored([tmp_path / "empty"])


def annotation_rows(n: int = 805, strength: float = 0.4, effect: float = 1.2) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    ours = rng.integers(100, 2_000, n)
    base = rng.integers(100, 1_500, n)
    change = ours - base
    chance = expit(strength + effect * np.tanh(change / change.std(ddof=1)))
    preference = 1 + (rng.random(n) < chance)
    return [
        {
            "instruction": f"instruction {i}",
            "output_1": "x" * int(base[i]),
            "output_2": "y" * int(ours[i]),
            "generator_1": "baseline",
            "generator_2": "model",
            "annotator": "judge",
            "preference": float(preference[i]),
        }
        for i in range(n)
    ]


def test_alpaca_eval_annotations(tmp_path: Path) -> None:
    rows = annotation_rows()
    for i, given in enumerate([1.5, 0, None, float("nan"), 1.25, 1.75, 2.9]):
        rows[i]["preference"] = given
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows))  # with a NaN, as pandas and Python write it
    (result,) = json.loads(run("annotations", str(file)).stdout)
    kept = np.array([0.5, 0.5, 0.25, 0.75, *(row["preference"] - 1 for row in rows[7:])])
    assert result["win_rate"] == pytest.approx(100 * kept.mean())
    assert result["standard_error"] == pytest.approx(100 * kept.std(ddof=1) / np.sqrt(802))
    assert (result["n_total"], result["dropped"], result["n_draws"]) == (802, 3, 2)
    assert (result["model"], result["baseline"], result["annotator"]) == ("model", "baseline", "judge")
    assert result["length_controlled_winrate"] == pytest.approx(100 * expit(0.4), abs=5)
    assert result["length_controlled"]["length_effect"]["value"] == pytest.approx(1.2, abs=0.45)
    assert result["avg_length"] == pytest.approx(np.mean([len(row["output_2"]) for row in rows]))

    lines = tmp_path / "annotations.jsonl.gz"
    lines.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    assert json.loads(run("annotations", str(lines)).stdout) == [result]
    (turned,) = json.loads(run("annotations", str(file), "--model", "baseline").stdout)
    assert turned["win_rate"] == pytest.approx(100 - result["win_rate"])
    assert turned["standard_error"] == pytest.approx(result["standard_error"])
    assert turned["length_controlled_winrate"] == pytest.approx(100 - result["length_controlled_winrate"])


def test_difficulty_is_used_where_it_is_supplied(tmp_path: Path) -> None:
    rows = annotation_rows(400)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    table = tmp_path / "difficulty.csv"
    table.write_text(",instruction_difficulty\n" + "".join(f"{i},{i % 7 - 3}\n" for i in range(400)))
    (result,) = json.loads(run("annotations", str(tmp_path / "a.json"), "--difficulty", str(table)).stdout)
    assert result["length_controlled"]["difficulty_effect"] is not None
    table.write_text(",instruction_difficulty\n0,0.1\n")
    with pytest.raises(UserError, match="1 difficulties"):
        run("annotations", str(tmp_path / "a.json"), "--difficulty", str(table))
    table.write_text("x\ny\n")
    with pytest.raises(UserError, match="difficulty"):
        run("annotations", str(tmp_path / "a.json"), "--difficulty", str(table))


def test_what_is_no_annotation(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for text, message in (
        ("[{]", "not valid JSON"),
        ('[{"instruction": "x"}]', "row 1: an AlpacaEval annotation has"),
        ("", "no annotation"),
        (json.dumps([annotation_rows(2)[0] | {"preference": None}]), "no annotation has a preference"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            run("annotations", str(file))
    file.write_text(json.dumps(annotation_rows(3)))
    with pytest.raises(UserError, match="of stranger"):
        run("annotations", str(file), "--model", "stranger")


def test_real_annotations(shared_data: Path) -> None:
    found = read_annotations(str(shared_data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz"), "cohere")
    assert {model for _, model, _ in found} == {"cohere"}
    for rows in found.values():
        figures = annotation_figures(rows)
        assert figures["low"] <= figures["win_rate"] <= figures["high"]
        assert figures["length_controlled"]["length_effect"]["value"] > 0  # GPT-4 likes long answers


def test_a_terminal_keeps_its_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.cli.evaluate_figures import print_json

    print_json("{}")
    assert capsys.readouterr().out == "{}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_json("{}")
    assert capsys.readouterr().out == ""
