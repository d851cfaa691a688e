"""Reward models on people's judgments: HH-RLHF's harmless test split, beside a linear model of words.

    python benchmarks/hh_reward.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out hh_reward.json

DATA_DIR holds human/hh_harmless_test.jsonl.gz (2,312 pairs, judged by people; not part of this project). Five
folds by prompt: each pair is judged by models that saw none of its prompt. Accuracy is a mean over seeds, its
interval resamples prompts. Each kind of model is compared pair by pair with a Bradley-Terry model on TF-IDF
of words and pairs of words (scikit-learn), and with the plain reward model.
Whole rankings need more than two completions: "pairs" and "rankings" are compared on the quickstart's
rankings (four completions, judged by a program), trained on one part of the prompts, measured on the other.
Several processes work off the models (`--workers N`); each model's scores are kept in the work folder, its
weights are not, and one that is scored is not trained again. Learning rate and epochs are chosen first, by
`--tune`, in three folds of what the first fold trains on. `--limit N` takes N pairs, to try the script on
a CPU with --model tiny.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import side

from alignment.data.files import read_records, write_records
from alignment.data.formats import hh_rlhf
from alignment.data.records import Record
from alignment.data.views import pairs_view
from alignment.stats import bootstrap_interval
from reward.evaluation import outcomes, scored

KINDS: dict[str, list[str]] = {
    "plain": [],
    "smoothing 0.1": ["label_smoothing=0.1"],
    "without length": ["length_debias=true"],
    "4 heads": ["ensemble={members: 4}", "resample=true"],
}
# learning rate, epochs, of a batch of 32
TUNED = [(1e-5, 1), (2e-5, 2), (5e-5, 1), (5e-5, 2), (5e-5, 4), (1e-4, 2)]
INNER = 3  # folds for choosing
RANKINGS = {"pairs": [], "rankings": ["loss=rankings"]}
Row = dict[str, Any]


def fold_of(record: Record, folds: int, salt: str = "") -> int:
    """The fold of a record, by a hash of its prompt."""
    text = salt + json.dumps([(turn.role, turn.content) for turn in record.prompt])
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


class Job(NamedTuple):
    """One model: trained on one file of records, asked about the pairs of another."""

    name: str
    seed: int
    data: str
    test: str
    settings: list[str]

    def scores(self, work: Path) -> Path:
        digest = hashlib.sha256(json.dumps(self).encode()).hexdigest()[:8]
        return work / "scores" / f"{self.name}-{self.seed}-{digest}.json"


def work_off(work: Path, model: str, jobs: list[Job]) -> None:
    """Train and ask each model that has not been: {"differences", "seconds", "versions"} in its file."""
    from alignment.backend.config import load_config
    from alignment.backend.runs import read_run
    from alignment.backend.scoring import load_scorer
    from reward import stage

    for job in jobs:
        if job.scores(work).is_file():
            continue
        folder = work / "runs" / f"{job.name}-{job.seed}"
        given = [
            f"run.dir={folder}",
            f"run.seed={job.seed}",
            f"model.path={model}",
            f"data.train=[{job.data}]",
        ]
        given += ["run.overwrite=true", "data.validation_fraction=0.0", *job.settings]
        stage.run(load_config(stage.Config, "smollm2-135m/reward", given))
        rows = list(pairs_view(read_records([job.test]), margin=True))
        found = scored(load_scorer(str(folder)), rows).differences
        run = read_run(folder)
        told = {"differences": found.tolist(), "seconds": run["seconds"], "versions": run["versions"]}
        side.save(job.scores(work), told)
        shutil.rmtree(folder)
        print(f"{job.name}-{job.seed}: {outcomes(found).mean():.3f}", flush=True)


def differences(work: Path, job: Job) -> np.ndarray:
    """(n,) score of chosen less that of rejected."""
    return np.array(json.loads(job.scores(work).read_text())["differences"])


def interval(values: np.ndarray, prompts: list[str]) -> Row:
    return bootstrap_interval(values, prompts)._asdict()


def fold_files(arguments: argparse.Namespace) -> list[tuple[Path, Path]]:
    """By fold the records to train on and those held out."""
    path = arguments.data / "human" / "hh_harmless_test.jsonl.gz"
    records = list(hh_rlhf.read([path]))[: arguments.limit]
    return parted(records, arguments.folds, arguments.work / "fold")


def parted(records: list[Record], folds: int, prefix: Path, salt: str = "") -> list[tuple[Path, Path]]:
    """Files PREFIX-k.jsonl and PREFIX-k-held-out.jsonl of each fold, by prompt."""
    numbers = [fold_of(record, folds, salt) for record in records]
    files = []
    for k in range(folds):
        data, test = (prefix.with_name(f"{prefix.name}-{k}{part}.jsonl") for part in ("", "-held-out"))
        write_records(data, [r for r, n in zip(records, numbers, strict=True) if n != k], overwrite=True)
        write_records(test, [r for r, n in zip(records, numbers, strict=True) if n == k], overwrite=True)
        files.append((data, test))
    return files


def tuning_jobs(arguments: argparse.Namespace, settings: list[str]) -> dict[str, list[Job]]:
    """By settings the models that choose among them: the first fold's held-out pairs take no part."""
    known = list(read_records([fold_files(arguments)[0][0]]))
    files = parted(known, INNER, arguments.work / "inner", salt="inner")
    found = {}
    for number, (rate, epochs) in enumerate(TUNED):
        extra = [f"trainer.learning_rate={rate}", f"trainer.num_train_epochs={epochs}"]
        found[" ".join(extra)] = [
            Job(f"tune{number}-inner{k}", 0, str(data), str(test), [*settings, *extra])
            for k, (data, test) in enumerate(files)
        ]
    return found


def people_jobs(arguments: argparse.Namespace, settings: list[str]) -> list[dict[str, list[Job]]]:
    """By fold and kind the models, one a seed."""
    return [
        {
            kind: [
                Job(f"fold{k}-{kind.replace(' ', '-')}", seed, str(data), str(test), [*settings, *extra])
                for seed in range(arguments.seeds)
            ]
            for kind, extra in KINDS.items()
        }
        for k, (data, test) in enumerate(fold_files(arguments))
    ]


def on_people(work: Path, folds: list[dict[str, list[Job]]]) -> Row:
    """Accuracies over all folds, and differences from the linear model and from the plain reward model."""
    right: dict[str, list[np.ndarray]] = {}
    prompts: list[str] = []
    for kinds in folds:
        plain = kinds["plain"]
        test = list(pairs_view(read_records([plain[0].test]), margin=True))
        known = list(pairs_view(read_records([plain[0].data])))
        prompts += [str(row["prompt"]) for row in test]
        right.setdefault("TF-IDF", []).append(tfidf(known, test))
        longer = [len(str(row["chosen"])) - len(str(row["rejected"])) for row in test]
        right.setdefault("the longer one", []).append(outcomes(np.array(longer, dtype=float)))
        for kind, jobs in kinds.items():
            found = np.array([differences(work, job) for job in jobs])  # (seeds, n)
            right.setdefault(kind, []).append(outcomes(found).mean(axis=0))
            if kind == "plain" and len(jobs) > 1:
                together = f"{len(jobs)} runs together"
                right.setdefault(together, []).append(outcomes(found.mean(axis=0)))
    whole = {kind: np.concatenate(parts) for kind, parts in right.items()}
    return {
        "pairs": len(prompts),
        "accuracy": {kind: interval(values, prompts) for kind, values in whole.items()},
        "over TF-IDF": {k: interval(v - whole["TF-IDF"], prompts) for k, v in whole.items() if k != "TF-IDF"},
        "over plain": {k: interval(v - whole["plain"], prompts) for k, v in whole.items() if k != "plain"},
    }


def ranking_jobs(arguments: argparse.Namespace, settings: list[str]) -> dict[str, list[Job]]:
    """By loss the models on the quickstart's rankings, one a seed."""
    files = []
    for name in ("rankings", "rankings_held_out"):
        records = list(read_records([f"quickstart/{name}.jsonl.gz"]))[: arguments.limit]
        files.append(arguments.work / f"{name}.jsonl")
        write_records(files[-1], records, overwrite=True)
    data, test = map(str, files)
    return {
        kind: [Job(f"by-{kind}", seed, data, test, [*settings, *extra]) for seed in range(arguments.seeds)]
        for kind, extra in RANKINGS.items()
    }


def on_rankings(work: Path, kinds: dict[str, list[Job]]) -> Row:
    """The two losses on the quickstart's rankings, measured on its held-out prompts."""
    one = kinds["pairs"][0]
    prompts = [str(row["prompt"]) for row in pairs_view(read_records([one.test]), margin=True)]
    right = {
        kind: np.mean([outcomes(differences(work, job)) for job in jobs], axis=0)
        for kind, jobs in kinds.items()
    }
    return {
        "records": sum(1 for _ in read_records([one.data])),
        "accuracy": {kind: interval(values, prompts) for kind, values in right.items()},
        "rankings over pairs": interval(right["rankings"] - right["pairs"], prompts),
    }


def run_all(arguments: argparse.Namespace, jobs: list[Job], end: float) -> None:
    """Every job in some process; SystemExit where some are missing in the end."""
    (arguments.work / "plan.json").write_text(json.dumps(jobs))
    workers = range(arguments.workers)
    started = [
        side.start(__file__, f"worker {k}", arguments.work, [*sys.argv[1:], "--worker", str(k)])
        for k in workers
    ]
    for k, process in zip(workers, started, strict=True):
        found = side.finish(process, f"worker {k}", arguments.work, end - time.monotonic())
        if "error" in found:
            print(f"worker {k}: {found['error'][-300:]}", flush=True)
    missing = [job for job in jobs if not job.scores(arguments.work).is_file()]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(jobs)} models are missing; the same command goes on")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "hh_reward.json")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=500, help="that all may take")
    parser.add_argument("--commit")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", help="KEY=VALUE over smollm2-135m/reward, for every model")
    arguments = parser.parse_args()
    work = arguments.work
    if arguments.worker is not None:
        jobs = [Job(*told) for told in json.loads((work / "plan.json").read_text())]
        work_off(work, arguments.model, jobs[arguments.worker :: arguments.workers])
        return
    work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    began = time.monotonic()
    end = began + arguments.seconds
    settings = ["data.max_truncated=0.2", "trainer.save_strategy=no", *arguments.settings]
    result: Row = {
        "model": Path(arguments.model).name,
        "folds": arguments.folds,
        "seeds": arguments.seeds,
        **side.origin(arguments.commit, ("torch", "transformers", "trl")),
    }
    if arguments.tune:
        candidates = tuning_jobs(arguments, settings)
        run_all(arguments, [job for jobs in candidates.values() for job in jobs], end)
        result["tuning"] = {
            told: float(np.concatenate([outcomes(differences(work, job)) for job in jobs]).mean())
            for told, jobs in candidates.items()
        }
        print(json.dumps(result["tuning"], indent=1), flush=True)
        settings += max(result["tuning"], key=result["tuning"].__getitem__).split()
    result["settings"] = settings
    folds, rankings = people_jobs(arguments, settings), ranking_jobs(arguments, settings)
    run_all(arguments, [job for kinds in (*folds, rankings) for jobs in kinds.values() for job in jobs], end)
    result["seconds"] = round(time.monotonic() - began, 1)
    result |= {"people": on_people(work, folds), "rankings": on_rankings(work, rankings)}
    side.save(arguments.out, result)
    print(json.dumps({key: result[key] for key in ("people", "rankings", "seconds")}, indent=2))


if __name__ == "__main__":
    main()
