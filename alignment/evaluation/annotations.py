"""AlpacaEval's annotation files: its own figures from them, and ours beside.

They are read here as AlpacaEval reads them, NaN and all; `alignkit data convert --from alpaca-eval` makes
records of them, and refuses what is no preference.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment.data.lines import read_lines
from alignment.errors import UserError
from alignment.stats import bootstrap_interval, explained_by_length, head_to_head, length_controlled


def read_annotations(path: str, model: str | None = None) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """(baseline, model, annotator) -> rows {instruction, preference, length_1, length_2, row}.

    path: a JSON array or lines, plain, .gz or .zst. preference: 1 (baseline) to 2 (model), NaN where it is
    none; 0 is a draw, as in AlpacaEval's first files. The baseline is generator_1, as AlpacaEval has it;
    where `model` names generator_1 the row is turned round, and rows without `model` are left out. row: its
    number in the file, from 0. Raises UserError for a file without annotations.
    """
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for number, (where, row) in enumerate(_rows(path)):
        if (
            not isinstance(row, dict)
            or not {"instruction", "output_1", "output_2", "preference"} <= row.keys()
        ):
            raise UserError(
                f"{where}: an AlpacaEval annotation has instruction, output_1, output_2 and preference"
            )
        one, two = (str(row.get(f"generator_{i}") or f"output_{i}") for i in (1, 2))
        preference = _preference(row["preference"])
        lengths = [len(str(row[key] or "")) for key in ("output_1", "output_2")]
        if model is not None and two != model:
            if one != model:
                continue
            one, two, preference = two, one, 3.0 - preference
            lengths.reverse()
        key = (one, two, str(row.get("annotator") or "unnamed"))
        found.setdefault(key, []).append(
            {
                "instruction": str(row["instruction"]),
                "preference": preference,
                "length_1": lengths[0],
                "length_2": lengths[1],
                "row": number,
            }
        )
    if not found:
        raise UserError(f"{path}: it holds no annotation{'' if model is None else f' of {model}'}")
    return found


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    """Every row with its place."""
    if not Path(path).is_file():
        raise UserError(f"{path} is not a file")
    lines = list(read_lines(Path(path)))
    try:
        if lines and lines[0][1].lstrip()[:1] == b"[":
            array = json.loads(b"\n".join(line for _, line in lines))
            yield from ((f"{path}, row {number}", row) for number, row in enumerate(array, 1))
        else:
            for where, line in lines:
                yield where, json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON, neither an array nor lines of it: {error}") from None


def _preference(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    given = 1.5 if value == 0 else float(value)
    return given if 1.0 <= given <= 2.0 else math.nan


def annotation_figures(
    rows: Sequence[dict[str, Any]], difficulty: Sequence[float] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """AlpacaEval's figures in per cent, and intervals over instructions.

    difficulty: AlpacaEval's instruction_difficulty by row of the file. {win_rate, standard_error,
    discrete_win_rate, n_wins, n_wins_base, n_draws, n_total, dropped, low, high, avg_length,
    length_controlled_winrate, length_controlled {low, high, length_effect, difficulty_effect},
    length_explains}. Lengths are in characters, as AlpacaEval counts them. Raises UserError where no
    preference is left, or a row has no difficulty.
    """
    preference = np.array([row["preference"] for row in rows])
    try:
        figures = head_to_head(preference)
    except ValueError:
        raise UserError("no annotation has a preference between 1 and 2") from None
    kept = [row for row, given in zip(rows, np.isfinite(preference), strict=True) if given]
    won = preference[np.isfinite(preference)] - 1.0
    prompts = [row["instruction"] for row in kept]
    hard = None
    if difficulty is not None:
        if max(row["row"] for row in kept) >= len(difficulty):
            raise UserError(
                f"there are {len(difficulty):,} difficulties, but an annotation in row {len(rows):,}"
            )
        hard = [difficulty[row["row"]] for row in kept]
    raw = bootstrap_interval(won, prompts, seed=seed)
    own, base = ([row[key] for row in kept] for key in ("length_2", "length_1"))
    controlled = length_controlled(won, own, base, prompts, difficulty=hard, seed=seed)
    return {
        **figures._asdict(),
        "standard_error": figures.standard_error if figures.n_total > 1 else None,
        "low": 100.0 * raw.low,
        "high": 100.0 * raw.high,
        "avg_length": float(np.mean([row["length_2"] for row in rows])),
        "length_controlled_winrate": 100.0 * controlled.rate,
        "length_controlled": {
            "low": 100.0 * controlled.low,
            "high": 100.0 * controlled.high,
            "length_effect": controlled.length_effect._asdict(),
            "difficulty_effect": controlled.difficulty_effect,
        },
        "length_explains": explained_by_length(raw, controlled),
    }


def read_difficulty(path: str) -> list[float]:
    """The last column of AlpacaEval's instruction_difficulty.csv, row by row. Raises UserError."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        return [float(row[-1]) for row in rows if row]
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a table whose last column is the difficulty ({error})") from None
