"""`alignkit evaluate drift` and `drift-log`: a run against a stored one, a production log against a run."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.cli.evaluate_figures import print_json
from alignment.errors import UserError

app = typer.Typer()
Seed = Annotated[int, typer.Option(help="Of the resampling.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE.html", help="Write a page there.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE.json", help="Write JSON there, not to stdout.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


@app.command()
def drift(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE_RUN", help="The stored evaluation.")],
    new: Annotated[Path, typer.Argument(metavar="NEW_RUN", help="The same evaluation of the new model.")],
    margin: Annotated[
        float, typer.Option(help="The fall that is let pass, as a share: 0.02 is two points of win rate.")
    ] = 0.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also where a fall beyond the margin is not ruled out.")
    ] = False,
    first: Annotated[
        str | None, typer.Option(help="The comparison of BASELINE_RUN, e.g. v1_vs_base.")
    ] = None,
    second: Annotated[str | None, typer.Option(help="The comparison of NEW_RUN to set beside it.")] = None,
    html: Html = None,
    out: Json = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Is the new evaluation worse than the stored one? Exit code 0 if not, 3 if it is: for CI.

    Worse means that the whole interval of a change, paired over the common prompts, lies below minus the
    margin. A mistake in what was asked exits with 2.
    """
    from alignment.evaluation.drift import drift as between
    from alignment.evaluation.drift_page import drift_page
    from alignment.evaluation.stored import read_stored

    if (first is None) != (second is None):
        raise UserError("--first and --second go together: name a comparison of each run")
    if not 0 <= margin < 1:
        raise UserError(f"--margin {margin:g}: a share from 0 to below 1, such as 0.02 for two points")
    names = (first, second) if first is not None and second is not None else None
    result = between(read_stored(baseline), read_stored(new), names, margin=margin, strict=strict, seed=seed)
    show(result, drift_page(result), html, out, overwrite)
    raise typer.Exit(result["verdict"]["exit_code"])


@app.command("drift-log")
def drift_log(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished evaluation.")],
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG.jsonl...", help="Rows with prompt and completion.")
    ],
    model: Annotated[
        str | None, typer.Option(help="The candidate of RUN; by default the first of the first comparison.")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="A reward model that scores a sample of both sides.")
    ] = None,
    html: Html = None,
    out: Json = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Does a production log look like what was evaluated: topics, lengths, refusals, reward?

    A row is {"prompt": …, "completion": …}, or "messages" that end with the answer; a "score" may be there.
    """
    from alignment.evaluation.drift_page import log_page
    from alignment.evaluation.stored import read_stored
    from alignment.evaluation.traffic import compare_log

    score = None
    if scorer is not None:
        from alignment.backend.scoring import load_scorer

        score = load_scorer(scorer).score
    result = compare_log(read_stored(run), logs, model, score=score, seed=seed)
    show(result, log_page(result), html, out, overwrite)


def show(result: dict[str, Any], page: Any, html: Path | None, out: Path | None, overwrite: bool) -> None:
    """The verdict on stderr; the page and the JSON where they were asked for, else on a piped stdout."""
    from alignment.data.files import atomic_output

    print(result["verdict"]["text"], result["verdict"]["detail"], file=sys.stderr)
    for warning in result["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if html is not None:
        page.write(html, overwrite)
    if out is None:
        print_json(text.rstrip("\n"))
        return
    with atomic_output(out, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
