"""Safety figures beside lm-evaluation-harness's own: `python benchmarks/safety.py LM_EVAL.whl [OUT.json]`.

Random items in the published formats and random log-likelihoods go through our figures and through the
functions of the harness's tasks bbq, crows_pairs and truthfulqa. No model and none of the sets is needed;
get the wheel by `pip download lm_eval --no-deps`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from alignment.data.files import atomic_output
from alignment.evaluation.safety_figures import METRICS
from alignment.evaluation.safety_items import read_safety

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "safety.json"
ITEMS = 1_000
# category -> stereotyped groups, both answers, and BBQ's answer_info of each
PEOPLE: dict[str, tuple[list[str], list[str], list[list[str]]]] = {
    "Age": (["old"], ["The old man", "The young man"], [["old man", "old"], ["young man", "nonOld"]]),
    "Gender_identity": (["F"], ["The woman", "The man"], [["woman", "woman"], ["man", "man"]]),
    "Race_ethnicity": (["Black"], ["Keisha", "Molly"], [["Keisha", "F-Black"], ["Molly", "F-White"]]),
    "Nationality": (
        ["Nigerian"],
        ["The Nigerian", "The Swede"],
        [["Nigerian", "Africa"], ["Swede", "Europe"]],
    ),
    "SES": (["low SES"], ["The poor man", "The rich man"], [["poor man", "lowSES"], ["rich man", "highSES"]]),
}


class Rows(list[Any]):
    """As much of a `datasets.Dataset` as the harness's task asks for."""

    def map(self, change: Any) -> Rows:
        return Rows(change(dict(row)) for row in self)


def task(folder: Path, name: str, part: str = "") -> ModuleType:
    """The harness's utils.py of a task, or the one function of it that is asked for."""
    source = (folder / "lm_eval" / "tasks" / name / "utils.py").read_text()
    if part:  # the rest of the file imports what is not needed here
        source = "import numpy as np\n\n" + re.search(rf"def {part}.*?(?=\ndef )", source, re.DOTALL)[0]  # type: ignore[index]
    module = ModuleType(name)
    exec(compile(source.replace("np.NaN", "np.nan"), name, "exec"), module.__dict__)
    return module


def bbq_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for i in range(ITEMS):
        category = list(PEOPLE)[i % len(PEOPLE)]
        groups, names, info = PEOPLE[category]
        order = rng.permutation(3)
        answers = [[*names, "Not known"][k] for k in order]
        told = [[*info, ["Not known", "unknown"]][k] for k in order]
        unknown = answers.index("Not known")
        condition = ("ambig", "disambig")[i // 5 % 2]
        known = [k for k in range(3) if k != unknown]
        rows.append(
            {
                "example_id": i,
                "category": category,
                "question_polarity": ("neg", "nonneg")[i // 10 % 2],
                "context_condition": condition,
                "context": f"Context {i}.",
                "question": "Who?",
                "answer_info": {f"ans{k}": told[k] for k in range(3)},
                "additional_metadata": {"stereotyped_groups": groups},
                "label": unknown if condition == "ambig" else int(rng.choice(known)),
                **{f"ans{k}": answers[k] for k in range(3)},
            }
        )
    return rows


def bbq(folder: Path, work: Path, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    peer, given = task(folder, "bbq"), bbq_rows(rng)
    (work / "bbq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    items, _ = read_safety("bbq", [str(work / "bbq.jsonl")], None, "bbq")
    ours, theirs = [], []
    for item, row in zip(items, peer.process_docs(Rows(given)), strict=True):
        unknown = item.facts["unknown"]
        likely = rng.normal(size=3)
        ours.append({"item": item.id, **item.facts, "log_probs": likely.tolist()})
        named = [likely[k] for k in range(3) if k != unknown]
        # the harness words "unknown" in ten ways; here one of them has its likelihood, the others none
        choices = [(value, False) for value in (*named, likely[unknown], *[-np.inf] * 9)]
        theirs.append(peer.process_results_multiple_choice(row, choices))
    mine = values(METRICS["bbq"](ours))
    names = {
        "accuracy_ambiguous": ("accuracy_amb", peer.agg_accuracy_amb),
        "accuracy_disambiguated": ("accuracy_disamb", peer.agg_accuracy_disamb),
        "bias_ambiguous": ("amb_bias_score", peer.agg_amb_bias_scores),
        "bias_disambiguated": ("disamb_bias_score", peer.agg_disamb_bias_scores),
    }
    return {k: (mine[k], float(add([row[key] for row in theirs]))) for k, (key, add) in names.items()}


def crows(folder: Path, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    peer, likely = task(folder, "crows_pairs"), rng.normal(size=(ITEMS, 2))
    rows = [{"item": str(i), "type": "", "log_probs": pair.tolist()} for i, pair in enumerate(likely)]
    theirs = [peer.process_results({}, [(a, 0), (b, 0)])["pct_stereotype"] for a, b in likely]
    return {"stereotype": (values(METRICS["crows_pairs"](rows))["stereotype"], float(np.mean(theirs)))}


def truthfulqa(folder: Path, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    peer = task(folder, "truthfulqa", "process_results_mc2")
    ours, theirs = [], []
    for i in range(ITEMS):
        true, false = (int(k) for k in rng.integers(1, 5, 2))
        likely = 3.0 * rng.normal(size=true + false)
        sides = {"true": list(range(true)), "false": list(range(true, true + false))}
        one = {"true": [0], "false": sides["false"]}
        ours.append({"item": str(i), "mc1": one, "mc2": sides, "log_probs": likely.tolist()})
        labels = {"mc2_targets": {"labels": [1] * true + [0] * false}}
        theirs.append(peer.process_results_mc2(labels, [(value, 0) for value in likely])["acc"])
    return {"mc2": (values(METRICS["truthfulqa"](ours))["mc2"], float(np.mean(theirs)))}


def values(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(m.parts.sum() / m.wholes.sum()) for name, m in metrics.items()}


def main(wheel: Path, out: Path) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        zipfile.ZipFile(wheel).extractall(folder)
        found = {
            "bbq": bbq(folder, folder, rng),
            "crows_pairs": crows(folder, rng),
            "truthfulqa": truthfulqa(folder, rng),
        }
    commit = ["git", "rev-parse", "HEAD"]
    result = {
        "device": "any CPU",
        "versions": {"lm-evaluation-harness": wheel.name.split("-")[1]},
        "commit": subprocess.run(commit, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip(),
        "items": ITEMS,
        "figures": [
            {"set": kind, "figure": name, "ours": ours, "theirs": theirs}
            for kind, figures in found.items()
            for name, (ours, theirs) in figures.items()
        ],
    }
    with atomic_output(out, overwrite=True) as place:
        place.write_text(json.dumps(result, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUT)
