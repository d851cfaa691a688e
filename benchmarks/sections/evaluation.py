"""Statistics and stored verdicts."""

from __future__ import annotations

from typing import Any

from sections.common import origin, table

COVERAGE_WORDS = """\
`python benchmarks/coverage.py`: whole evaluations of independent prompts are simulated with a known win
rate (a tie as half) and share of ties; the share of 95% intervals that hold it should be 0.95 or more.
Bootstrap: percentile, 10,000 resamples; exact: Clopper-Pearson, with ties by Berger & Boos. Width: the
exact interval's over the bootstrap's."""


WITHOUT_TIES_WORDS = """\
Without ties the same is counted out, not simulated, at every true rate in steps of 0.0005 (rates below one
half mirror these). The exact interval is never below 95%. The bootstrap comes below 93.5% where a rate is
near 1 for the number of prompts: with few losses there is little to draw from. Read the exact one there."""


PEEKING_WORDS = """\
No true difference, and a look after every prompt: the chance that a test ever says there is one, counted
out, not simulated. The sequential test stays below 5%, with ties further (they pay nothing); the sign
test, which may be looked at once, does not."""


SEQUENCE_WORDS = """\
The confidence sequence: the share that hold the true rate at all looks together (20% ties, 1,000 prompts,
a look at every tenth), and the median number of prompts after which one half was refuted."""


SEEDS_WORDS = """\
Several training seeds, 300 prompts each; sd: how much seeds differ in win rate. Intervals over seeds and
prompts, and intervals that resample prompts alone and so miss the next seed."""


LENGTH_WORDS = """\
Length control where strength is 0.3 and the length effect 1.2 (log-odds): the mean controlled rate beside
the true one, and the share of intervals that hold it."""


def coverage(result: dict[str, Any]) -> str:
    """How often intervals hold the truth and tests err."""
    cells = [
        [
            f"{c['n']:,}",
            f"{c['rate']:g}",
            f"{c['ties']:g}",
            f"{c['bootstrap']:.3f}",
            f"{c['exact']:.3f}",
            f"{c['exact_width'] / c['bootstrap_width']:.2f}",
        ]
        for c in result["cells"]
    ]
    large = [c["bootstrap"] for c in result["cells"] if c["n"] >= 200]
    exact = min(c["exact"] for c in result["cells"])
    error = (0.95 * 0.05 / result["runs"]) ** 0.5
    summary = (
        f"{result['runs']:,} evaluations a cell (Monte Carlo error {error:.4f}). Lowest: bootstrap "
        f"{min(large):.3f} from 200 prompts on, exact {exact:.3f} anywhere."
    )
    without_ties = [
        [
            f"{b['n']:,}",
            f"{b['above']:g} to {b['to']:g}",
            f"{b['bootstrap']:.3f}",
            f"{100 * b['below']:.1f}%",
            f"{b['exact']:.3f}",
        ]
        for b in result["without_ties"]
    ]
    peeking = [
        [f"{p['looks']:,}", f"{p['sequential']:.3f}", f"{p['sign_test']:.3f}"] for p in result["peeking"]
    ]
    sequence = [
        [
            f"{s['rate']:g}",
            f"{s['coverage']:.3f}",
            "never" if s["median_stop"] is None else f"{s['median_stop']:,.0f}",
        ]
        for s in result["sequence"]
    ]
    seeds = [
        [str(s["seeds"]), f"{s['sd']:g}", f"{s['both']:.3f}", f"{s['prompts_only']:.3f}"]
        for s in result["seeds"]
    ]
    length = [
        [f"{x['n']:,}", f"{x['true']:.3f}", f"{x['mean']:.3f}", f"{x['coverage']:.3f}"]
        for x in result["length"]
    ]
    flags = result["flags"]
    return "\n\n".join(
        [
            "## Statistics: how often intervals hold the truth",
            f"{COVERAGE_WORDS}\n{summary} {origin(result)}",
            table(["prompts", "win rate", "ties", "bootstrap", "exact", "width"], cells),
            WITHOUT_TIES_WORDS,
            table(
                [
                    "prompts",
                    "win rates",
                    "bootstrap, least",
                    "rates at which it is below 93.5%",
                    "exact, least",
                ],
                without_ties,
            ),
            PEEKING_WORDS,
            table(["looks", "sequential", "sign test"], peeking),
            SEQUENCE_WORDS,
            table(["win rate", "coverage", "stopped at"], sequence),
            SEEDS_WORDS,
            table(["seeds", "sd", "seeds and prompts", "prompts alone"], seeds),
            LENGTH_WORDS,
            table(["prompts", "true", "mean", "coverage"], length),
            f"The over-optimisation flag, where the proxy rises over {flags['checkpoints']} checkpoints and "
            f"the gold reward does not move: raised in {100 * flags['flagged']:.1f}% of {flags['runs']} "
            "evaluations.",
        ]
    )


FORGETTING_WORDS = """\
`python benchmarks/forgetting.py`: whole probes of two models are simulated and go through the evaluator's own
figures. Called forgotten where nothing was lost: 2.5% is what a 95% interval allows. The smallest loss is the
one that the report says would have been seen with 80% chance, and was then simulated."""


def forgetting(result: dict[str, Any]) -> str:
    """How often probes call forgotten what was kept, and find a loss."""
    rows = [
        [
            c["what"],
            f"{c['items']:,}",
            "–" if c["differ"] is None else f"{100 * c['differ']:g}%",
            f"{100 * c['kept']:.1f}%",
            f"{c['smallest']:.3f}",
            f"{100 * c['lost']:.1f}%",
        ]
        for c in result["cells"]
    ]
    heads = [
        "probe",
        "items",
        "models differ on",
        "forgotten, nothing lost",
        "smallest loss",
        "forgotten, that lost",
    ]
    return "\n\n".join(
        [
            "## Called forgotten",
            f"{FORGETTING_WORDS}\n{origin(result)} {result['runs']:,} simulated probes a figure.",
            table(heads, rows),
        ]
    )


VERDICTS_WORDS = """\
`python benchmarks/verdicts.py`: statistics from stored verdicts, whole commands with the time to start.
verdicts: all figures of `alignkit evaluate verdicts` (bootstrap, exact, sign tests, length control,
power, sequential)."""


def verdicts(result: dict[str, Any]) -> str:
    """Seconds and memory for statistics of stored verdicts."""
    rows = [
        [
            c["command"],
            f"{c['verdicts']:,}",
            c["shape"],
            f"{c['prompts']:,}",
            f"{c['seconds']:.1f}",
            f"{c['peak_bytes'] / 1e6:,.0f}",
        ]
        for c in result["cases"]
    ]
    return "\n\n".join(
        [
            "## Statistics of 100,000 stored verdicts",
            f"{VERDICTS_WORDS}\n{origin(result)}",
            table(["command", "verdicts", "shape", "prompts", "seconds", "MB"], rows),
        ]
    )


DRIFT_WORDS = """\
`python benchmarks/drift.py`: `alignkit evaluate drift` on two simulated evaluations of one recipe, whose
prompts differ in difficulty and whose outcomes are drawn anew. lost: points of win rate that the second
one truly lost. Where it lost no more than the margin "worse" is an error, where it lost as much or more "no
worse" is: 2.5% at the margin itself. undecided passes, unless `--strict` is given."""


def drift(result: dict[str, Any]) -> str:
    """How often the gate says what, and what a log of production costs."""
    rows = [
        [
            f"{g['prompts']:,}",
            str(g["figures"]),
            f"{g['rate']:g}",
            f"{g['lost']:g}",
            f"{g['margin']:g}",
            *(f"{100 * g[state]:.1f}%" for state in ("worse", "undecided", "no_worse")),
        ]
        for g in result["gates"]
    ]
    log = result["log"]
    return "\n\n".join(
        [
            "## The drift gate, and a log of production",
            f"{DRIFT_WORDS}\n{result['runs']} runs a row; {origin(result)}",
            table(
                ["prompts", "figures", "win rate", "lost", "margin", "worse", "undecided", "no worse"], rows
            ),
            f"`alignkit evaluate drift-log` on a log of {log['rows']:,} rows ({log['megabytes']:.0f} MB): "
            f"{log['seconds']:.1f} s with the time to start, {log['peak_bytes'] / 1e6:.0f} MB.",
        ]
    )


SAFETY_WORDS = """\
`python benchmarks/safety.py LM_EVAL.whl`: random items in the published formats and random likelihoods, put
through our figures and through the functions of the harness's own tasks. Zero is no difference at all."""


def safety(result: dict[str, Any]) -> str:
    """Our figures of BBQ, CrowS-Pairs and TruthfulQA beside lm-evaluation-harness's."""
    rows = [
        [
            f["set"],
            f["figure"],
            f"{f['ours']:.6f}",
            f"{f['theirs']:.6f}",
            f"{abs(f['ours'] - f['theirs']):.0e}",
        ]
        for f in result["figures"]
    ]
    return "\n\n".join(
        [
            "## Safety figures beside lm-evaluation-harness",
            f"{SAFETY_WORDS}\n{result['items']:,} items a set; {origin(result)}",
            table(["set", "figure", "alignkit", "lm-evaluation-harness", "difference"], rows),
        ]
    )
