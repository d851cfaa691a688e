"""Reward against KL: checkpoints of one policy, a proxy and a gold judge, and where the proxy stops to help.

    DIR/completions.jsonl   records: every prompt with the answers of the base and of every checkpoint
        scores.jsonl        of every answer: both rewards, and log π(y|x) − log π_base(y|x) in nats
        report.json         the figures
        report.html         one page that holds all it needs

Every figure can be computed again from scores.jsonl (`reward_kl_figures.figures`). Left out: who wins a
comparison, which is what `stage.py` is for.
"""

import json
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from alignment.backend.config import RunConfig, RunSection
from alignment.backend.generation.settings import GenerationSection
from alignment.backend.runs import COMPLETE, open_run
from alignment.data.files import atomic_output, write_records
from alignment.errors import UserError
from alignment.evaluation.config import JudgeSection


class Config(RunConfig):
    """The config of a reward-KL evaluation."""

    stage: Literal["reward-kl"] = "reward-kl"
    base: str
    """The policy before optimisation, at which the KL is 0: for PPO the model it started from."""
    checkpoints: list[str] = Field(min_length=1)
    """Models in the order of training; a run directory stands for all the complete checkpoints in it."""
    prompts: list[str] = Field(min_length=1)
    """Files of records; only their prompts are read, and each different prompt once."""
    max_prompts: int | None = Field(None, ge=1)
    """Use only the first so many prompts."""
    samples_per_prompt: int = Field(1, ge=1)
    """Answers of each checkpoint to each prompt."""
    proxy: JudgeSection
    """The reward that the policy was trained on."""
    gold: JudgeSection
    """What it was meant to be good at: a reward model that it was not trained against, or a program."""
    best_of_n: int = Field(0, ge=0)
    """Answers of the base to each prompt, for the curve of the best of n of them; 0 leaves it out."""
    generation: GenerationSection = GenerationSection()
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the models' weights."""
    run: RunSection

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        from alignment.evaluation.collect import is_warped

        if is_warped(self.generation):
            raise ValueError(
                "generation: the KL is that of samples at temperature 1, with top_p 1 and top_k 0; leave "
                "these out"
            )
        for name, judge in (("proxy", self.proxy), ("gold", self.gold)):
            if judge.kind not in ("reward", "program"):
                raise ValueError(f"{name}: a reward needs scores, which kind {judge.kind} does not give")
        if self.best_of_n == 1:
            raise ValueError("best_of_n: the best of 1 is no choice; give 2 or more, or 0")
        return self


def run(config: Config) -> dict[str, Any]:
    """Sample, score, and write the report; the stage's result dict, its metrics being the report without
    config. Started again on an unfinished run it goes on where that was. Raises UserError as reading prompts
    and models does, and where a checkpoint's tokens are not the base's.
    """
    started = time.monotonic()
    from alignment.evaluation.answers import read_prompts

    prompts, repeated = read_prompts(config.prompts, config.max_prompts)
    candidates = {"base": config.base, **checkpoints(config.checkpoints)}
    judges = [judge.path for judge in (config.proxy, config.gold) if judge.path]
    run_dir = open_run(config, data=config.prompts, parents=[*candidates.values(), *judges])

    from alignment.evaluation.collect import collect, open_candidates
    from alignment.evaluation.panel import make_judge
    from alignment.evaluation.reward_kl_figures import build_report
    from alignment.evaluation.reward_kl_page import build_page

    _, tokenizers = open_candidates(candidates, prompts, config.samples_per_prompt)
    nowhere = run_dir.dir / "replies"  # for judges that keep replies, which none of these is
    proxy, gold = (make_judge(judge, prompts, nowhere) for judge in (config.proxy, config.gold))
    run_dir.start()
    settings = config.generation.model_copy(update={"seed": config.run.seed + config.generation.seed})
    names = list(candidates)
    collected = collect(
        candidates,
        {},
        tokenizers,
        prompts,
        samples=config.samples_per_prompt,
        settings=settings,
        parents=dict.fromkeys(names[1:], "base"),
        base=None,
        dtype=config.dtype,
        folder=run_dir.dir / "parts",
    )
    for name in names[1:]:
        if name in collected.unlike:
            raise UserError(
                f"checkpoints: {candidates[name]} has no KL from the base: {collected.unlike[name]}"
            )
    rows = scored(names, prompts, collected, proxy, gold)
    if config.best_of_n:
        answers = base_samples(config, prompts, tokenizers["base"], settings, run_dir.dir / "parts")
        rows += scored_answers("base", "best_of_n", prompts, answers, proxy, gold)
    report = build_report(config, candidates, rows, (proxy, gold), len(prompts), repeated)
    report["seconds"] = round(time.monotonic() - started, 3)
    _write(run_dir.dir, prompts, collected.answers, settings, rows, report)
    build_page(report).write(run_dir.dir / "report.html", overwrite=True)
    result = run_dir.finish({key: value for key, value in report.items() if key not in ("config", "lineage")})
    shutil.rmtree(run_dir.dir / "parts", ignore_errors=True)
    return {**result, "report": str(run_dir.dir / "report.html")}


def checkpoints(paths: list[str]) -> dict[str, str]:
    """Name -> model folder, in the order given; a run directory stands for its checkpoints by step.

    Raises UserError for a run directory without complete checkpoints.
    """
    found: dict[str, str] = {}
    for path in paths:
        folder = Path(path)
        if not (folder / "run.json").is_file():
            found[_free(folder.name or path, found)] = path
            continue
        steps = {
            int(marked.parent.name.rpartition("-")[2]): marked.parent
            for marked in (folder / "checkpoints").glob(f"checkpoint-*/{COMPLETE}")
        }
        if not steps:
            raise UserError(
                f"checkpoints: {path} holds no complete checkpoint; train with trainer.save_steps and a "
                "trainer.save_total_limit that keeps them, or name models one by one"
            )
        found |= {_free(f"step-{step}", found): str(steps[step]) for step in sorted(steps)}
    return found


def _free(name: str, taken: dict[str, str]) -> str:
    """The name, made different from those taken."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).lstrip(".") or "checkpoint"
    names = [plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in names if one not in taken and one != "base")


def base_samples(config: Config, prompts: list[Any], tokenizer: Any, settings: Any, folder: Path) -> Any:
    """`best_of_n` answers of the base to each prompt, sampled in parts that are kept."""
    from alignment.backend.config import ModelSection
    from alignment.backend.models import load_policy
    from alignment.backend.progress import Steps
    from alignment.evaluation.collect import Counter
    from alignment.evaluation.sampled import answers_wanted, sample_answers

    section = ModelSection(path=config.base, dtype=config.dtype)
    load = cache(lambda: load_policy(section, trainable=False))
    # Another seed than that of the base's own answers, or the first of n would be the same again.
    apart = settings.model_copy(update={"seed": settings.seed + 1_000_003})
    with Steps(f"base: best of {config.best_of_n}", answers_wanted(prompts, config.best_of_n)) as steps:
        return sample_answers(
            folder / "best_of_n",
            prompts,
            config.best_of_n,
            apart,
            "base",
            lambda: (load(), tokenizer),
            Counter(steps),
        )


def scored(
    names: list[str], prompts: list[Any], collected: Any, proxy: Any, gold: Any
) -> list[dict[str, Any]]:
    """The rows of scores.jsonl for the answers of the base and of all checkpoints."""
    from alignment.evaluation.collect import ANSWERS

    rows = []
    for name in names:
        some = scored_answers(name, "checkpoint", prompts, collected.answers[name], proxy, gold)
        if name != "base":
            own, its = (collected.log_probs[name, under, ANSWERS] for under in (name, "base"))
            for row, mine, theirs in zip(some, own, its, strict=True):
                row["log_ratio"] = mine.total - theirs.total
        rows += some
    return rows


def scored_answers(
    name: str, kind: str, prompts: list[Any], answers: Any, proxy: Any, gold: Any
) -> list[dict[str, Any]]:
    """One row an answer: {model, of, prompt, sample, proxy, gold, log_ratio, words, finished}."""
    asked = [prompt for prompt, row in zip(prompts, answers, strict=True) for _ in row]
    given = [answer for row in answers for answer in row]
    places = [k for row in answers for k in range(len(row))]
    return [
        {
            "model": name,
            "of": kind,
            "prompt": prompt.id,
            "sample": k,
            "proxy": by_proxy,
            "gold": by_gold,
            "log_ratio": 0.0,
            "words": len(answer.text.split()),
            "finished": answer.finished,
        }
        for prompt, k, answer, by_proxy, by_gold in zip(
            asked, places, given, proxy.scores(asked, given), gold.scores(asked, given), strict=True
        )
    ]


def _write(
    folder: Path, prompts: list[Any], answers: Any, settings: Any, rows: list[Any], report: dict[str, Any]
) -> None:
    from alignment.evaluation.answers import answer_records

    params = settings.model_dump(exclude={"token_budget"})
    records = answer_records(prompts, answers, dict.fromkeys(answers, params))
    write_records(folder / "completions.jsonl", records, overwrite=True)
    with (
        atomic_output(folder / "scores.jsonl", overwrite=True) as temporary,
        temporary.open("w", encoding="utf-8") as out,
    ):
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with atomic_output(folder / "report.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
