"""Aligned against base: the same prompts to every model, a judge, win rates with intervals, a report.

    DIR/completions.jsonl   records: every prompt with every model's answers, as the labeling app takes them
        verdicts.jsonl      every verdict, the controls' too: all win rates can be computed again from it
        costs.json          seconds, tokens and memory of making the answers
        likelihoods.jsonl   log-probabilities of the answers: all KL figures can be computed again from it
        report.json         the figures
        report.html         one page that holds all it needs
        report.md           the verdict and a table, for a model's card

        probes/             every item of every probe, as each model did on it
        replies/            what LLM judges and candidates behind an address answered, word for word

Left out here: training of any kind.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from alignment.backend.progress import Steps
from alignment.backend.runs import open_run
from alignment.data.files import atomic_output
from alignment.evaluation.answers import is_endpoint, is_file
from alignment.evaluation.config import Config
from alignment.evaluation.sampled import answers_wanted, asked_answers


def run(config: Config, judge: Any = None) -> dict[str, Any]:
    """Evaluate and write the report; the stage's result dict, its metrics being the report without config.

    judge: stands in for the one that `config.judge` names (see judges.Judge). Started again on an unfinished
    run it goes on where that was. Raises UserError as reading prompts, models and completions does.
    """
    started = time.monotonic()
    from alignment.evaluation.answers import read_prompts
    from alignment.evaluation.lm_eval import read_lm_eval, write_lm_eval
    from alignment.evaluation.probe_rows import read_measured
    from alignment.evaluation.probes import probe_elsewhere, probe_model, read_probes, write_settings
    from alignment.evaluation.report import Evidence, build_report, read_accuracy, write_evidence
    from alignment.evaluation.verdict import compare, shuffled

    prompts, repeated = read_prompts(config.prompts, config.max_prompts)
    probes, imported = read_probes(config.probes), read_lm_eval(config.lm_eval)
    for folder in (config.reward_run, config.reward_control):
        if folder is not None:
            read_accuracy(folder)
    sections = [config.judge, *config.other_judges]
    files = [path for path in config.models.values() if is_file(path)]
    files += [str(section.path) for section in sections if section.kind == "people"]
    models = [path for path in config.models.values() if not is_file(path) and not is_endpoint(path)]
    judges_here = [section.path for section in sections if section.kind in ("reward", "llm")]
    scorers = [path for path in (*judges_here, config.reward_run, config.reward_control) if path]
    run_dir = open_run(config, data=[*config.prompts, *dict.fromkeys(files)], parents=[*models, *scorers])

    from alignment.evaluation.card import card
    from alignment.evaluation.collect import ANSWERS, Counter, collect, open_candidates
    from alignment.evaluation.cost import costs_of, measure_single
    from alignment.evaluation.page import build_page
    from alignment.evaluation.panel import make_judge, opinion

    answers, tokenizers = open_candidates(config.models, prompts, config.samples_per_prompt)
    replies = run_dir.dir / "replies"
    judges = [judge] if judge else []
    for number, section in list(enumerate(sections))[len(judges) :]:
        judges.append(make_judge(section, prompts, replies / f"judge-{number}.jsonl"))
    run_dir.start()
    settings = config.generation.model_copy(update={"seed": config.run.seed + config.generation.seed})
    for name, url in config.models.items():
        if is_endpoint(url):
            with Steps(f"{name}: answers", answers_wanted(prompts, config.samples_per_prompt)) as steps:
                answers[name] = asked_answers(
                    url,
                    prompts,
                    config.samples_per_prompt,
                    settings,
                    config.api,
                    replies / f"{name}.jsonl",
                    Counter(steps),
                )
    write_settings(probes, run_dir.dir)
    write_lm_eval(imported, run_dir.dir)
    probe_elsewhere(probes, config, run_dir.dir)
    made = run_dir.dir / "parts" / ANSWERS

    def visit(name: str, load: Any, tokenizer: Any) -> None:
        measure_single(made / name, prompts, config.latency_prompts, settings, lambda: (load(), tokenizer))
        probe_model(probes, name, load, tokenizer, config, run_dir.dir)

    collected = collect(
        config.models,
        answers,
        tokenizers,
        prompts,
        samples=config.samples_per_prompt,
        settings=settings,
        parents=config.parents,
        base=config.base,
        dtype=config.dtype,
        folder=run_dir.dir / "parts",
        visit=visit,
    )
    pairs = config.pairs()
    opinions = [opinion(one, prompts, pairs, collected.answers) for one in judges]
    control = {}
    if len(prompts) > 1 and hasattr(judges[0], "scores"):  # costs nothing with scores, and asks nobody again
        on = shuffled(len(prompts), config.run.seed)
        control = {
            f"{a}_vs_{b}": compare(judges[0], prompts, (a, b), collected.answers, on) for a, b in pairs
        }
    measured = read_measured(run_dir.dir)
    costs = costs_of(config, made, replies)
    texts = {probe.name: probe.texts for probe in probes}
    evidence = Evidence(config, prompts, repeated, collected, opinions, control, measured, texts, costs)
    report = build_report(evidence, seconds=time.monotonic() - started)
    write_evidence(run_dir.dir, evidence, report)
    build_page(evidence, report).write(run_dir.dir / "report.html", overwrite=True)
    with atomic_output(run_dir.dir / "report.md", overwrite=True) as temporary:
        temporary.write_text(card(report), encoding="utf-8")
    if config.report is not None:
        for name in ("report.json", "report.html", "report.md"):
            with atomic_output(Path(config.report) / name, overwrite=True) as temporary:
                shutil.copy(run_dir.dir / name, temporary)
    metrics = {key: value for key, value in report.items() if key not in ("config", "lineage")}
    result = run_dir.finish(metrics)
    shutil.rmtree(run_dir.dir / "parts", ignore_errors=True)
    return {**result, "report": str(run_dir.dir / "report.html")}
