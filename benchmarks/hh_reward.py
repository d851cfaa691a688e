"""Reward models on people's judgments: HH-RLHF's harmless test split, beside a linear model of words.

    python benchmarks/hh_reward.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out hh_reward.json

DATA_DIR holds human/hh_harmless_test.jsonl.gz (2,312 pairs, judged by people; not part of this project). Five
folds by prompt: each pair is judged by models that saw none of its prompt. Accuracy is a mean over seeds, its
interval resamples prompts. Each kind of model is compared pair by pair with a Bradley-Terry model on TF-IDF
of words and pairs of words (scikit-learn), and with the plain reward model.
Whole rankings need more than two completions: "pairs" and "rankings" are compared on the quickstart's
rankings (four completions, judged by a program), trained on one part of the prompts, measured on the other.
`--limit N` takes N pairs, to try the script on a CPU with --model tiny.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from smollm2_path import ROOT

from alignment.backend.config import load_config
from alignment.backend.runs import read_run
from alignment.backend.scoring import load_scorer
from alignment.data.files import write_records
from alignment.data.formats import hh_rlhf
from alignment.data.records import Record
from alignment.data.views import pairs_view
from alignment.stats import bootstrap_interval
from reward import stage
from reward.evaluation import outcomes, scored

KINDS: dict[str, list[str]] = {
    "plain": [],
    "smoothing 0.1": ["label_smoothing=0.1"],
    "without length": ["length_debias=true"],
    "4 heads": ["ensemble={members: 4}", "resample=true"],
}
RANKINGS = {"pairs": [], "rankings": ["loss=rankings"]}
Row = dict[str, Any]
HELP = argparse.RawDescriptionHelpFormatter


def fold_of(record: Record, folds: int) -> int:
    """The fold of a record, by a hash of its prompt."""
    text = json.dumps([(turn.role, turn.content) for turn in record.prompt])
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % folds


def tfidf(train: list[Row], test: list[Row]) -> np.ndarray:
    """(n,) 1 where a Bradley-Terry model on TF-IDF (words and pairs of words) of the replies is right."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def texts(rows: list[Row], side: str) -> list[str]:
        return ["\n".join(turn["content"] for turn in row[side]) for row in rows]

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    words.fit(texts(train, "chosen") + texts(train, "rejected"))
    better, worse = (words.transform(texts(train, side)) for side in ("chosen", "rejected"))
    from scipy.sparse import vstack

    model = LogisticRegression(fit_intercept=False, C=1.0, max_iter=1000)
    labels = np.repeat([1, 0], len(train))
    model.fit(vstack([better - worse, worse - better]), labels)
    difference = words.transform(texts(test, "chosen")) - words.transform(texts(test, "rejected"))
    return outcomes(np.asarray(difference @ model.coef_[0]).ravel())


def train(work: Path, name: str, data: Path, model: str, seed: int, settings: list[str]) -> str:
    """A reward run's directory, trained unless it is there already."""
    folder = work / "runs" / f"{name}-{seed}"
    given = [f"run.dir={folder}", f"run.seed={seed}", f"model.path={model}", f"data.train=[{data}]"]
    config = load_config(
        stage.Config, "smollm2-135m/reward", [*given, "data.validation_fraction=0.0", *settings]
    )
    if not (folder / "run.json").is_file() or read_run(folder)["status"] != "complete":
        stage.run(config)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return str(folder)


def differences(run: str, rows: list[Row]) -> np.ndarray:
    """(n,) score of chosen less that of rejected."""
    return scored(load_scorer(run), rows).differences


def interval(values: np.ndarray, prompts: list[str]) -> Row:
    return bootstrap_interval(values, prompts)._asdict()


def on_people(arguments: argparse.Namespace, settings: list[str]) -> Row:
    """Accuracies over all folds, and differences from the linear model and from the plain reward model."""
    path = arguments.data / "human" / "hh_harmless_test.jsonl.gz"
    records = list(hh_rlhf.read([path]))[: arguments.limit]
    folds = [[r for r in records if fold_of(r, arguments.folds) == k] for k in range(arguments.folds)]
    right: dict[str, list[np.ndarray]] = {}
    prompts: list[str] = []
    for k, held_out in enumerate(folds):
        rest = [record for other, fold in enumerate(folds) if other != k for record in fold]
        data = arguments.work / f"fold-{k}.jsonl"
        write_records(data, rest, overwrite=True)
        test, known = list(pairs_view(held_out, margin=True)), list(pairs_view(rest))
        prompts += [str(row["prompt"]) for row in test]
        right.setdefault("TF-IDF", []).append(tfidf(known, test))
        longer = [len(str(row["chosen"])) - len(str(row["rejected"])) for row in test]
        right.setdefault("the longer one", []).append(outcomes(np.array(longer, dtype=float)))
        for kind, extra in KINDS.items():
            name = f"fold{k}-{kind.replace(' ', '-')}"
            runs = [
                train(arguments.work, name, data, arguments.model, seed, [*settings, *extra])
                for seed in range(arguments.seeds)
            ]
            found = np.array([differences(run, test) for run in runs])  # (seeds, n)
            right.setdefault(kind, []).append(outcomes(found).mean(axis=0))
            if kind == "plain" and arguments.seeds > 1:
                together = f"{arguments.seeds} runs together"
                right.setdefault(together, []).append(outcomes(found.mean(axis=0)))
    whole = {kind: np.concatenate(parts) for kind, parts in right.items()}
    return {
        "pairs": len(prompts),
        "accuracy": {kind: interval(values, prompts) for kind, values in whole.items()},
        "over TF-IDF": {k: interval(v - whole["TF-IDF"], prompts) for k, v in whole.items() if k != "TF-IDF"},
        "over plain": {k: interval(v - whole["plain"], prompts) for k, v in whole.items() if k != "plain"},
    }


def on_rankings(arguments: argparse.Namespace, settings: list[str]) -> Row:
    """The two losses on the quickstart's rankings, measured on its held-out prompts."""
    from alignment.data.files import read_records

    held_out = list(read_records(["quickstart/rankings_held_out.jsonl.gz"]))
    train_records = list(read_records(["quickstart/rankings.jsonl.gz"]))
    if arguments.limit:
        held_out, train_records = held_out[: arguments.limit], train_records[: arguments.limit]
    data = arguments.work / "rankings.jsonl"
    write_records(data, train_records, overwrite=True)
    test = list(pairs_view(held_out, margin=True))
    prompts = [str(row["prompt"]) for row in test]
    right = {}
    for kind, extra in RANKINGS.items():
        runs = [
            train(arguments.work, f"by-{kind}", data, arguments.model, seed, [*settings, *extra])
            for seed in range(arguments.seeds)
        ]
        right[kind] = np.mean([outcomes(differences(run, test)) for run in runs], axis=0)
    return {
        "records": len(train_records),
        "accuracy": {kind: interval(values, prompts) for kind, values in right.items()},
        "rankings over pairs": interval(right["rankings"] - right["pairs"], prompts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "hh_reward.json")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE over smollm2-135m/reward, for every model")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    settings = ["data.max_truncated=0.2", "trainer.save_strategy=no", *arguments.settings]
    result = {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "CPU",
        "model": Path(arguments.model).name,
        "folds": arguments.folds,
        "seeds": arguments.seeds,
        "settings": settings,
        "people": on_people(arguments, settings),
        "rankings": on_rankings(arguments, settings),
    }
    runs = sorted((arguments.work / "runs").iterdir())
    state = read_run(runs[0])
    result |= {"versions": state["versions"], "commit": (state["git"] or {}).get("commit")}
    result["seconds"] = sum(read_run(run)["seconds"] for run in runs)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("people", "rankings", "seconds")}, indent=2))


if __name__ == "__main__":
    main()
