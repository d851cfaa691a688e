"""What stands beside the win rates in report.json: statistics of each comparison, slices, contamination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.backend.runs import input_places, read_run
from alignment.data.contamination import Evaluation
from alignment.data.files import Rejects, data_files, read_records
from alignment.data.records import Message, Record
from alignment.errors import UserError
from alignment.evaluation.answers import Answers, Prompt
from alignment.evaluation.statistics import comparison_figures
from alignment.evaluation.verdict import Judged, rate_of

LEAST = 10  # prompts of a slice that gets a win rate
NAMED = 20  # contaminated prompts whose ids are kept


def statistics_of(judged: Sequence[Judged], answers: Mapping[str, Answers], seed: int) -> dict[str, Any]:
    """`comparison_figures` of a comparison without its win rate, which stands in `win_rate`."""
    lengths = [
        [len(answers[name][j.prompt][j.sample].text.split()) for j in judged]
        for name in (judged[0].a, judged[0].b)
    ]
    figures = comparison_figures([j.outcome for j in judged], [j.prompt for j in judged], *lengths, seed=seed)
    return {key: value for key, value in figures.items() if key != "win_rate"}


def slices_of(
    judged: Mapping[str, Sequence[Judged]], prompts: Sequence[Prompt], seed: int
) -> dict[str, dict[str, Any]]:
    """The win rates on the prompts of each tag, {tag: {comparison: {rate, low, high, n, ties}}}.

    Where prompts have follow-ups, each turn of a conversation is a slice too. Tags of fewer than LEAST
    prompts are left out. Each interval is one of many: some miss by chance.
    """
    counts = Counter(tag for prompt in prompts for tag in prompt.tags)
    found: dict[str, dict[str, Any]] = {}
    for tag in sorted(tag for tag, count in counts.items() if count >= LEAST):
        rows = {
            name: [j for j in verdicts if tag in prompts[j.prompt].tags] for name, verdicts in judged.items()
        }
        found[tag] = {name: rate_of(some, seed)._asdict() for name, some in rows.items() if some}
    turns = sorted({j.turn for verdicts in judged.values() for j in verdicts})
    for turn in turns if turns != [1] else []:
        rows = {name: [j for j in verdicts if j.turn == turn] for name, verdicts in judged.items()}
        found[f"turn {turn}"] = {name: rate_of(some, seed)._asdict() for name, some in rows.items() if some}
    return found


def contamination_of(
    models: Mapping[str, str], sets: Mapping[str, Sequence[Prompt]]
) -> dict[str, dict[str, Any]]:
    """Which of these prompts the training data of each model holds, as far as its runs tell and are here.

    {set: {model: {"prompts": how many at least, "whole": how many of them are there whole, "ids": the first
    NAMED of them, the whole ones first, "files": data read, "missing": data that is named but not here,
    "unreadable": {data that is here: what of it could not be read}}}}; models that are no run directories are
    left out. A prompt is contaminated if a run of 13 of its words, or the whole of a shorter one, is in the
    data (alignment/data/contamination.py): prompts made from one template share runs, so those of which a
    whole turn is there are counted beside.
    """
    known = {name: Evaluation(_whole(p) for p in prompts) for name, prompts in sets.items()}
    held: dict[str, tuple[dict[str, dict[str, bool]] | None, str]] = {}
    found: dict[str, dict[str, Any]] = {name: {} for name in sets}
    for model, path in models.items():
        files = _training_data(path)
        if files is None:
            continue
        for file in files:
            if file not in held:
                held[file] = _contaminated(file, known)
        for name, prompts in sets.items():
            here = [mine[name] for file in files if (mine := held[file][0]) is not None]
            ids = set().union(*here)
            whole = {one for mine in here for one in mine if mine[one]}
            found[name][model] = {
                "prompts": len(ids),
                "whole": len(whole),
                "ids": sorted((p.id for p in prompts if p.id in ids), key=lambda one: one not in whole)[
                    :NAMED
                ],
                "files": [file for file in files if held[file][0] is not None],
                "missing": [file for file in files if held[file] == (None, "")],
                "unreadable": {file: held[file][1] for file in files if held[file][1]},
            }
    return found


def _whole(prompt: Prompt) -> Record:
    """All that a prompt asks, in one record."""
    later = [Message("user", turn.text) for turn in prompt.follow_ups]
    return Record([*(Message(**m) for m in prompt.messages), *later], id=prompt.id)


def _training_data(path: str, depth: int = 8) -> list[str] | None:
    """Data that a run and its parents were trained on; None for what is no run directory."""
    if not (Path(path) / "run.json").is_file():
        return None
    state = read_run(path)
    files = [_first(input_places(path, state, name), _is_here) or name for name in state["data"]]
    for name, told in state["parents"].items() if depth else ():
        place = _first(input_places(path, state, name), lambda one: (Path(one) / "run.json").is_file())
        if place is not None:
            files += _training_data(place, depth - 1) or []
        elif told.get("folder") == str(Path(name) / "model"):
            files.append(name)  # it was a run, whose data nobody can tell any more
    return list(dict.fromkeys(files))


def _first(places: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    return next((place for place in places if fits(place)), None)


def _is_here(file: str) -> bool:
    try:
        return bool(data_files(file))
    except UserError:
        return False


def _contaminated(
    file: str, known: Mapping[str, Evaluation]
) -> tuple[dict[str, dict[str, bool]] | None, str]:
    """{id: whether whole} of the prompts of each set that a file holds, None where nothing can be read; and
    what cannot be, in words: empty too where the file is not here any more."""
    found: dict[str, dict[str, bool]] = {name: {} for name in known}
    if not _is_here(file):
        return None, ""
    rejects = Rejects()
    try:
        for record in read_records(file, "skip", rejects):
            for name, evaluation in known.items():
                overlap = evaluation.overlap(record)
                if overlap:
                    found[name][overlap.evaluation] = overlap.whole or found[name].get(
                        overlap.evaluation, False
                    )
    except UserError as error:
        return None, str(error)
    return found, f"{rejects.count} rows, the first: {rejects.reasons[0]}" if rejects.count else ""
