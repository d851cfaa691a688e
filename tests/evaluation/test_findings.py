"""Slices by tag, prompts that were trained on, and the statistics that stand beside the win rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.evaluation import stage
from alignment.evaluation.judges import Verdict

LONG = "Please explain in a few plain words why the moon seems to follow a car at night, number"


def record(number: int, **meta: Any) -> Record:
    """`ours` names what is asked for on even numbers, `base` on odd ones."""
    texts = {
        "ours": "A cat sat." if number % 2 == 0 else "A dog.",
        "base": "A cat ran." if number % 2 else "No.",
    }
    completions = [Completion(content=text, source=Source("model", name)) for name, text in texts.items()]
    prompt = [Message("user", f"Write one sentence about a cat, number {number}.")]
    return Record(prompt, id=f"p{number}", completions=completions, meta=meta)


def evaluated(folder: Path, records: list[Record], **changes: Any) -> dict[str, Any]:
    file = folder / "answers.jsonl"
    write_records(file, records, overwrite=True)
    values = {
        "models": {"ours": str(file), "base": str(file)},
        "comparisons": [["ours", "base"]],
        "prompts": [str(file)],
        "judge": {"kind": "program"},
        "run": {"dir": str(folder / "run")},
    }
    return stage.run(stage.Config.model_validate(values | changes))["metrics"]


def test_slices_by_tag(tmp_path: Path) -> None:
    even = [record(2 * i, tags=["even"]) for i in range(12)]
    odd = [record(2 * i + 1, tags=["odd", "all"]) for i in range(10)]
    few = [record(100 + i, tags=["few"]) for i in range(3)]
    report = evaluated(tmp_path, [*even, *odd, *few])
    assert set(report["slices"]) == {"all", "even", "odd"}
    assert report["slices"]["even"]["ours_vs_base"]["rate"] == 1.0
    assert report["slices"]["odd"]["ours_vs_base"] == report["slices"]["all"]["ours_vs_base"]
    assert report["slices"]["odd"]["ours_vs_base"]["rate"] == 0.0
    assert report["slices"]["odd"]["ours_vs_base"]["n"] == 10
    assert "By kind of prompt" in (tmp_path / "run/report.html").read_text()


def test_statistics_beside_the_win_rate(tmp_path: Path) -> None:
    report = evaluated(tmp_path, [record(i) for i in range(30)])
    figures = report["statistics"]["ours_vs_base"]
    assert (figures["wins"], figures["losses"], figures["ties"]) == (15, 15, 0)
    assert figures["exact"]["low"] < report["win_rate"]["ours_vs_base"]["rate"] < figures["exact"]["high"]
    assert figures["sequential"]["decided_at"] is None
    (verdict,) = report["verdict"]
    assert "is found with 80% chance only from a win rate of" in verdict["detail"]
    page = (tmp_path / "run/report.html").read_text()
    assert "at equal length" in page
    assert "not decided" in page


def test_prompts_that_were_trained_on_are_named(tmp_path: Path) -> None:
    """By a model's own data or its parent's; what is not here any more is said to be missing."""
    records = [record(i) for i in range(3)]
    records += [
        Record([Message("user", f"{LONG} {i}")], id=f"long{i}", completions=records[0].completions)
        for i in (1, 2)
    ]
    seen = Record([Message("user", f"So: {LONG} nothing")], completions=[Completion(content="x")])
    write_records(tmp_path / "seen.jsonl", [seen])
    write_records(
        tmp_path / "parents.jsonl", [Record([Message("user", "write ONE sentence about a cat, number 2")])]
    )
    folders = {}
    for name, data, parents in (
        ("sft", "parents.jsonl", {}),
        ("dpo", "seen.jsonl", {str(tmp_path / "sft"): {}}),
    ):
        (tmp_path / name).mkdir()
        files = {str(tmp_path / data): "f", str(tmp_path / f"gone-{name}.jsonl"): "g"}
        state = {"stage": name, "status": "complete", "seconds": 1.0, "data": files, "parents": parents}
        (tmp_path / name / "run.json").write_text(json.dumps(state))
        folders[name] = str(tmp_path / name)

    from alignment.evaluation.answers import read_prompts
    from alignment.evaluation.findings import contamination_of

    write_records(tmp_path / "prompts.jsonl", records)
    prompts, _ = read_prompts([str(tmp_path / "prompts.jsonl")], None)
    sets = contamination_of({**folders, "tiny": "tiny"}, {"prompts": prompts, "probe": prompts[-1:]})
    assert sets["probe"]["dpo"]["ids"] == [prompts[-1].id]
    found = sets["prompts"]
    assert set(found) == {"sft", "dpo"}
    assert (found["sft"]["prompts"], found["sft"]["ids"]) == (1, ["p2"])
    assert (found["dpo"]["prompts"], found["dpo"]["whole"]) == (2, 1), "of the other a run of words alone"
    assert found["dpo"]["ids"][0] == "p2"
    assert found["dpo"]["ids"][1].startswith("long")
    missing = [Path(file).name for file in found["dpo"]["missing"]]
    assert missing == ["gone-dpo.jsonl", "gone-sft.jsonl"]
    assert found["dpo"]["unreadable"] == {}
    with (tmp_path / "seen.jsonl").open("a") as file:
        file.write("{}\n")
    (tmp_path / "parents.jsonl").write_text("no row\n")
    found = contamination_of(folders, {"prompts": prompts})["prompts"]["dpo"]
    assert found["prompts"] == 1, "what can be read of it counts"
    assert [Path(file).name for file in found["files"]] == ["seen.jsonl"]
    assert [Path(file).name for file in found["missing"]] == missing
    bad, worse = (found["unreadable"][str(tmp_path / name)] for name in ("seen.jsonl", "parents.jsonl"))
    assert bad.startswith("1 rows, the first: ")
    assert "no usable row" in worse


def test_what_is_left_of_a_win_with_other_prompts_is_told() -> None:
    """More than half of the lead over one half is a caution; more often is not called almost as often."""
    from alignment.evaluation.cautions import _left_when_shuffled

    def told(real: float, other: float) -> str:
        rates = ({"rate": r, "low": r - 0.02, "high": r + 0.02} for r in (real, other))
        return " ".join(_left_when_shuffled("sft", "base", *rates))

    most = "Most of the win of sft over base is left when answers are judged against other prompts (79%, with"
    assert told(0.97, 0.79).startswith(most)
    assert "sft beats base even more often when" in told(0.77, 0.83)
    assert "sft beats base almost as often when" in told(0.77, 0.76)
    assert told(0.97, 0.73) == told(0.97, 0.5) == told(0.54, 0.515) == ""


def test_prompts_of_one_template_are_told_more_calmly_than_leaks() -> None:
    from alignment.evaluation.cautions import _contaminated

    def held(prompts: int, whole: int) -> dict[str, Any]:
        return {"prompts": prompts, "whole": whole, "ids": [f"p{i}" for i in range(prompts)]}

    report = {
        "prompts": {"n": 300},
        "contamination": {"sft": held(2, 0), "dpo": held(3, 0), "ppo": held(4, 1), "base": held(0, 0)},
        "probe_contamination": {"sums": {"sft": held(5, 0), "dpo": held(5, 5)}},
    }
    leak, runs, calm, known = _contaminated(report)
    assert leak.startswith("1 of 300 prompts is in the data that ppo was trained on (p0); 3 more share a run")
    assert "(of 300: sft 2, dpo 3); no whole one is in the data" in runs
    assert calm.startswith(
        "Of the items of sums, none is in the data that sft was trained on, and 5 share a run"
    )
    assert known.startswith("Of the items of sums, 5 are in the data that dpo was trained on: what")


@pytest.mark.parametrize("told", [True, False])
def test_relative_paths_of_a_run_are_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Against the folder where the run was started, or, of an old run, above its own."""
    from alignment.evaluation.answers import read_prompts
    from alignment.evaluation.findings import contamination_of

    work, run = tmp_path / "work", tmp_path / ("runs" if told else "work/runs") / "dpo"
    run.mkdir(parents=True)
    work.mkdir(exist_ok=True)
    write_records(work / "data.jsonl", [record(1)])
    parents = {"runs/sft": {"folder": "runs/sft/model", "fingerprint": "f"}}
    state = {"stage": "dpo", "status": "complete", "data": {"data.jsonl": "f"}, "parents": parents}
    (run / "run.json").write_text(json.dumps({**state, **({"cwd": str(work)} if told else {})}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    prompts, _ = read_prompts([str(work / "data.jsonl")], None)
    found = contamination_of({"dpo": str(run)}, {"prompts": prompts})["prompts"]["dpo"]
    assert found["prompts"] == 1
    assert found["missing"] == ["runs/sft"], "a parent that was a run and is not here"


def test_cautions_of_unchecked_data_and_of_a_judge_that_was_trained_against(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from alignment.backend.runs import model_fingerprint
    from alignment.evaluation.cautions import _of_trained_reward, _unchecked

    (said,) = _unchecked("dpo", {"missing": ["rankings.jsonl"], "unreadable": {}})
    assert "could not be checked" in said
    assert "rankings.jsonl" in said
    assert _unchecked("dpo", {"missing": [], "unreadable": {}}) == []

    for name in ("reward", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    parents = {"elsewhere/reward": {"fingerprint": model_fingerprint(str(tmp_path / "reward"))}}
    lineage = {"ppo": {"stage": "ppo", "parents": parents}, "sft": {"stage": "sft", "parents": {}}, "f": {}}
    for name, told in (("reward", 1), ("other", 0)):
        judge = SimpleNamespace(kind="reward", path=str(tmp_path / name))
        said = _of_trained_reward({"lineage": lineage}, SimpleNamespace(judge=judge))  # type: ignore[arg-type]
        assert len(said) == told
        assert all("the reward that ppo was trained against" in one for one in said)


def test_a_recipe_trained_with_several_seeds(tmp_path: Path) -> None:
    """Three seeds of ours against base: the verdict is over seeds and prompts, each seed has a win rate."""
    records = []
    for i in range(40):
        texts = {f"ours-{k}": "word " * (3 if (i * 7 + k) % 10 < 5 + k else 1) for k in range(3)}
        completions = [
            Completion(content=text, source=Source("model", name)) for name, text in texts.items()
        ] + [Completion(content="word word", source=Source("model", "base"))]
        records.append(Record([Message("user", f"q {i}")], id=f"q{i}", completions=completions))
    file = tmp_path / "answers.jsonl"
    write_records(file, records)
    names = [f"ours-{k}" for k in range(3)]
    values = {
        "models": dict.fromkeys([*names, "base"], str(file)), "seeds": {"ours": names},
        "comparisons": [["ours", "base"], ["ours-2", "base"]], "prompts": [str(file)],
        "judge": {"kind": "program"}, "run": {"dir": str(tmp_path / "run")},
    }  # fmt: skip

    class Longer:
        name, statement = "length", "The longer answer wins."

        def __call__(self, prompts: Any, a: Any, b: Any) -> list[Verdict]:
            return [Verdict(float(len(x.text) > len(y.text))) for x, y in zip(a, b, strict=True)]

    report = stage.run(stage.Config.model_validate(values), judge=Longer())["metrics"]
    assert list(report["win_rate"]) == ["ours-0_vs_base", "ours-1_vs_base", "ours-2_vs_base"]
    assert [verdict["comparison"] for verdict in report["verdict"]] == ["ours_vs_base", "ours-2_vs_base"]
    over = report["over_seeds"]["ours_vs_base"]
    assert over["rates"] == pytest.approx({f"ours-{k}_vs_base": 0.5 + k / 10 for k in range(3)})
    assert (over["value"], over["n"], over["prompts"]) == (pytest.approx(0.6), 3, 40)
    assert over["low"] < report["win_rate"]["ours-1_vs_base"]["low"] + 0.1
    assert (over["p"], over["p_holm"]) == pytest.approx([0.2254] * 2, abs=1e-4)  # t = √3 with 2 df
    assert "over 3 training seeds" in report["verdict"][0]["text"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "another training seed; all others cover other prompts alone" in page
    for changes, message in [
        ({"seeds": {"ours": ["ours-0"]}}, "two different models"),
        ({"seeds": {"base": names}}, "a model's name too"),
        ({"seeds": {"ours": ["ours-0", "none"]}}, "'none' is not under models"),
        ({"seeds": {"ours": names, "old": names[:2]}, "comparisons": [["ours", "old"]]}, "as many of both"),
    ]:
        with pytest.raises(ValueError, match=message):
            stage.Config.model_validate(values | changes)


def test_a_second_judge_that_does_not_bear_the_verdict_out_is_a_caution() -> None:
    from alignment.evaluation.cautions import _other_minds

    def told(low: float, high: float, kappa: float) -> list[str]:
        rate = {"rate": (low + high) / 2, "low": low, "high": high}
        other = {"name": "second", "win_rate": {"a_vs_b": rate}}
        other["agreement_with_judge"] = {"a_vs_b": {"kappa": kappa}}
        first = {"rate": 0.7, "low": 0.6, "high": 0.8}
        return _other_minds({"win_rate": {"a_vs_b": first}, "other_judges": [other]})

    assert told(0.55, 0.75, 0.6) == []
    for case in ((0.45, 0.65, 0.6), (0.2, 0.4, 0.6), (0.55, 0.75, 0.05)):
        (said,) = told(*case)
        assert "The judge second does not bear out a against b" in said
