"""`alignkit evaluate`: power, verdicts, compare, leaderboard, annotations: figures that need no model."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.errors import UserError

app = typer.Typer()
RATES = (0.52, 0.55, 0.6, 0.65, 0.7)  # of the table that `power` prints when nothing is asked

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(help="Of the resampling.")]


def print_json(text: str) -> None:
    """To a file or another program; on a terminal hundreds of lines would push the table off it."""
    if sys.stdout.isatty():
        print("all figures as JSON: the same command with `> FILE.json` or `| cat`", file=sys.stderr)
    else:
        print(text)


@app.command()
def power(
    rate: Annotated[
        float | None, typer.Option(help="The true win rate to find, a tie as half; prints the number needed.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Comparisons; prints the smallest rate they find.")
    ] = None,
    ties: Annotated[float, typer.Option(help="The share of comparisons that are ties.")] = 0.0,
    chance: Annotated[float, typer.Option("--power", help="The chance with which it is to be found.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="The error allowed, two-sided.")] = 0.05,
    as_json: Json = False,
) -> None:
    """How many comparisons a win rate needs, or which win rate so many comparisons find.

    With --rate and --n, the chance that it is found. With neither, a table.
    """
    if not 0 < alpha < chance < 1:
        raise UserError(f"--alpha {alpha:g} --power {chance:g}: between 0 and 1, and the power is the larger")
    possible = [r for r in RATES if r <= 1 - ties / 2]
    if not 0 <= ties < 1 or (rate is None and n is None and not possible):
        raise UserError(
            f"--ties {ties:g}: a share from 0 to below 1, and where it is near 1 give --rate or --n"
        )
    how: dict[str, Any] = {"ties": ties, "alpha": alpha}
    try:
        if n is None:
            rows, lines = _numbers_needed(possible if rate is None else [rate], chance, how)
        elif rate is None:
            rows, lines = _rate_found(n, chance, how)
        else:
            rows, lines = _chance_to_find(n, rate, how)
    except ValueError as error:
        raise UserError(str(error)) from None
    if as_json:
        print(json.dumps({"power": chance, **how, "rows": rows}, indent=2))
        return
    goal = f"power {chance:g}, " if n is None or rate is None else ""
    print("\n".join(lines))
    print(f"({goal}two-sided test at {alpha:g}, {100 * ties:g}% ties; a tie counts as half a win)")


def _numbers_needed(rates: list[float], chance: float, how: Any) -> tuple[list[Any], list[str]]:
    from alignment.stats import comparisons_needed, comparisons_needed_exactly

    rows = [
        {
            "rate": rate,
            "normal": comparisons_needed(rate, power=chance, **how),
            "exact": comparisons_needed_exactly(rate, power=chance, **how),
        }
        for rate in rates
    ]
    lines = [
        f"win rate {row['rate']:g}: {row['normal']:,} comparisons by the normal approximation, "
        + (
            f"{row['exact']:,} by the exact sign test"
            if row["exact"]
            else "by the exact sign test about as many"
        )
        for row in rows
    ]
    return rows, lines


def _rate_found(n: int, chance: float, how: Any) -> tuple[list[Any], list[str]]:
    from alignment.stats import smallest_rate

    row = {
        "n": n,
        "normal": smallest_rate(n, power=chance, **how),
        "exact": smallest_rate(n, power=chance, exact=True, **how),
    }
    normal, exact = ("no win rate" if row[k] is None else f"{row[k]:.4f}" for k in ("normal", "exact"))
    line = f"{n:,} comparisons find a win rate from {normal} on by the normal approximation, {exact} by the "
    return [row], [line + "exact sign test; and the mirrored rates below one half"]


def _chance_to_find(n: int, rate: float, how: Any) -> tuple[list[Any], list[str]]:
    from alignment.stats.power import approximate_power, sign_test_power

    normal, exact = approximate_power(n, rate, **how), sign_test_power(n, rate, **how)
    line = f"{n:,} comparisons find a win rate of {rate:g} with a chance of {normal:.3f} by the normal "
    line += f"approximation, {exact:.3f} by the exact sign test"
    return [{"n": n, "rate": rate, "normal": normal, "exact": exact}], [line]


@app.command()
def verdicts(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a finished evaluation.")],
    seed: Annotated[
        int | None, typer.Option(help="Of the resampling; by default the evaluation's own.")
    ] = None,
) -> None:
    """All statistics of a finished evaluation again, from its stored verdicts; JSON on a piped stdout."""
    from rich.console import Console
    from rich.table import Table

    from alignment.evaluation.statistics import stored_figures
    from alignment.evaluation.stored import read_stored

    result = stored_figures(read_stored(run), seed=seed)
    heads = [
        "comparison",
        "answers won",
        "lost",
        "ties",
        "win rate",
        "95% interval",
        "exact",
        "equal length",
        "p (Holm)",
    ]
    table = Table(*heads)
    for name, f in result["comparisons"].items():
        rate, exact, controlled = f["win_rate"], f["exact"], f["length_controlled"]
        table.add_row(
            name.replace("_vs_", " against "),
            *(f"{f[key]:,}" for key in ("wins", "losses", "ties")),
            f"{rate['rate']:.3f}",
            *(f"{i['low']:.3f} to {i['high']:.3f}" for i in (rate, exact)),
            f"{controlled['rate']:.3f}" if controlled else "–",
            f"{f['p_holm']:.2g}",
        )
    Console(stderr=True).print(table)
    changes = [change for probe in result["probes"].values() for change in probe["pairs"].values()]
    for change in changes:
        if not change["forgotten"]:  # those are remarks
            print(change["text"], file=sys.stderr)
    for remark in result["remarks"]:
        print(f"note: {remark}", file=sys.stderr)
    print_json(json.dumps(result, indent=2, ensure_ascii=False))


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The run directory of an evaluation.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another; changes are from A to B.")],
    first: Annotated[str | None, typer.Option(help="The comparison of RUN_A, e.g. dpo_vs_sft.")] = None,
    second: Annotated[str | None, typer.Option(help="The comparison of RUN_B to set beside it.")] = None,
    seed: Seed = 0,
) -> None:
    """What changed between two evaluations, paired over the prompts that both have; JSON on stdout."""
    from alignment.evaluation.standings import compare_runs
    from alignment.evaluation.stored import read_stored

    if (first is None) != (second is None):
        raise UserError("--first and --second go together: name a comparison of each run")
    names = (first, second) if first is not None and second is not None else None
    result = compare_runs(read_stored(run_a), read_stored(run_b), names, seed=seed)
    for row in result["comparisons"]:
        print(row["text"], file=sys.stderr)
        left = row["prompts"]["only_first"] + row["prompts"]["only_second"]
        if left:
            print(f"note: {left:,} prompts are only in one of the two and were left out", file=sys.stderr)
    if any(change["what"] == "judge" for change in result["differs"]):
        print("note: the judges differ, so a change may be theirs and not the models'", file=sys.stderr)
    for change in result["differs"]:
        print(f"differs: {change['what']}: {change['first']} -> {change['second']}", file=sys.stderr)
    print_json(json.dumps(result, indent=2, ensure_ascii=False))


@app.command()
def leaderboard(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Evaluations lie in or below them.")
    ],
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE.md", help="Write the tables there.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--json", metavar="FILE.json", help="Write JSON there.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    seed: Seed = 0,
) -> None:
    """Rank the models of all evaluations found: Bradley-Terry strengths and ranks, with intervals.

    One table for each judge. Tables go to stderr, JSON to a piped stdout, or to the files named.
    """
    from alignment.data.files import atomic_output
    from alignment.evaluation import standings
    from alignment.evaluation.stored import find_stored

    tables = standings.leaderboards(find_stored(folders), seed=seed)
    text = standings.markdown(tables)
    result = json.dumps({"leaderboards": tables}, indent=2, ensure_ascii=False) + "\n"
    for path, content in ((markdown, text), (out, result)):
        if path is not None:
            with atomic_output(path, overwrite) as temporary:
                temporary.write_text(content, encoding="utf-8")
    print(text, file=sys.stderr, end="")
    if out is None:
        print_json(result.rstrip("\n"))


@app.command()
def annotations(
    file: Annotated[str, typer.Argument(metavar="FILE", help="AlpacaEval annotations: JSON or lines of it.")],
    model: Annotated[
        str | None, typer.Option(help="The model to rate; its rows are turned so that it comes second.")
    ] = None,
    difficulty: Annotated[
        str | None,
        typer.Option(metavar="FILE.csv", help="AlpacaEval's instruction_difficulty.csv, by row of FILE."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """AlpacaEval's own figures from its annotations: win rate, standard error, length-controlled win rate."""
    from rich.console import Console
    from rich.table import Table

    from alignment.evaluation.annotations import annotation_figures, read_annotations, read_difficulty

    hard = None if difficulty is None else read_difficulty(difficulty)
    found = read_annotations(file, model)
    results = [
        {"baseline": base, "model": name, "annotator": annotator, **annotation_figures(rows, hard, seed=seed)}
        for (base, name, annotator), rows in found.items()
    ]
    table = Table()
    for head in ("model", "baseline", "win rate", "standard error", "length-controlled", "n", "draws"):
        table.add_column(head, overflow="fold")
    for r in results:
        controlled = f"{r['length_controlled_winrate']:.2f}" + (" *" if r["length_explains"] else "")
        error = "–" if r["standard_error"] is None else f"{r['standard_error']:.2f}"
        cells = (r["model"], r["baseline"], f"{r['win_rate']:.2f}", error, controlled)
        table.add_row(*cells, f"{r['n_total']:,}", f"{r['n_draws']:,}")
    Console(stderr=True).print(table)
    if any(r["length_explains"] for r in results):
        print("* length may explain the win rate: at equal length it is not told from 50", file=sys.stderr)
    dropped = sum(r["dropped"] for r in results)
    if dropped:
        print(f"note: {dropped:,} annotations without a preference were left out", file=sys.stderr)
    print_json(json.dumps(results, indent=2, ensure_ascii=False))
