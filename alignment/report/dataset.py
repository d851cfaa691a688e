"""The page about a dataset: what to know before training on it, then the figures behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from alignment.data.labels import Judge
from alignment.data.overview import EXAMPLES, NEAR_MOST, SAMPLE, Overview, repeats
from alignment.data.pairs import best_completion
from alignment.data.quality import Share
from alignment.data.records import Record
from alignment.report import plots
from alignment.report.dataset_findings import findings, share
from alignment.report.page import Column, Page, Sample
from alignment.report.text import number

BARS = 12  # the most frequent; the rest are one bar
JUDGES = 25
DRAWN = 50_000  # lengths that a histogram draws


def build_page(found: Overview, name: str, evaluation: str | None = None, threshold: float = 0.8) -> Page:
    """The page of an overview; `name` and `evaluation` are what the datasets are called."""
    counted = found.statistics
    page = Page(
        f"The dataset {name}",
        f"{counted.rows:,} rows, {counted.prompts:,} different prompts, {counted.completions:,} completions, "
        f"{counted.judgments:,} judgments by {len(counted.judges):,} judges",
    )
    for finding in findings(found, evaluation):
        page.verdict(finding.text, finding.tone, finding.detail)
    _preferences(page, found)
    _judges(page, found)
    _lengths(page, found)
    _completions(page, found)
    _repeats(page, found, threshold)
    _languages(page, found)
    _personal(page, found)
    if evaluation:
        _contamination(page, found, evaluation)
    _balance(page, found)
    _examples(page, found)
    return page


def _preferences(page: Page, found: Overview) -> None:
    counted = found.statistics
    if not counted.pairs and not counted.ties:
        return
    page.heading("What was preferred")
    rows = [
        ("the longer", counted.longer_wins),
        ("shown first", counted.first_shown_wins),
        ("stored first", counted.first_stored_wins),
    ]
    page.figure(
        plots.intervals(
            _marks(rows), reference=0.5, bounds=(0, 1), x_label="share preferred", title="Biases"
        ),
        "How often the completion of each kind was preferred, with 95% intervals. One half: no bias.",
    )
    agreed = [
        ("ties counted", counted.agreement),
        ("ties left out", counted.agreement_without_ties),
    ]
    if counted.agreement.n:
        page.figure(
            plots.intervals(_marks(agreed), bounds=(0, 1), x_label="share the same", title="Agreement"),
            "How often two judges of the same two completions said the same, with 95% intervals.",
        )
    page.table(
        ["stated preferences", "ties", "all bad", "Krippendorff's alpha"],
        [[counted.pairs, counted.ties, counted.all_bad, found.labels.alpha]],
    )
    page.text(
        "Stored first is the order in the file: an importer that puts the chosen one first gives 1, which "
        "is no fault as long as no trainer sees the order. Alpha is 1 for full agreement, 0 for chance."
    )


def _judges(page: Page, found: Overview) -> None:
    judges = sorted(found.labels.judges.items(), key=lambda item: -item[1].judgments)
    if not judges:
        return
    page.heading("The judges")
    columns = ["judge", "judgments", "ties", "seconds", "longer wins", "shown first wins", "agrees", "gold"]
    table = [[name, *_judge(judge)] for name, judge in judges[:JUDGES]]
    used = [at for at in range(len(columns)) if at < 2 or any(row[at] != "–" for row in table)]
    page.table([columns[at] for at in used], [[row[at] for at in used] for row in table])
    more = f" The {JUDGES} with the most judgments of {len(judges):,}." if len(judges) > JUDGES else ""
    page.text(
        "Ties: share of the judge's pairs. Seconds: the median of a judgment. Agrees: with other judges of "
        f"the same pair. Gold: of the pairs whose answer is known.{more}"
    )
    if len(judges) > 1:
        page.figure(
            plots.bars(_most({name: judge.judgments for name, judge in judges}), title="Judgments by judge"),
            "Judgments by judge.",
        )
        biased = [(name, judge.longer_wins) for name, judge in judges[:BARS] if judge.longer_wins.n]
        if biased:
            page.figure(
                plots.intervals(_marks(biased), reference=0.5, bounds=(0, 1), title="Length bias by judge"),
                "How often each judge preferred the longer completion, with 95% intervals.",
            )
    per_row = {f"{count} judgments": rows for count, rows in sorted(found.labels.per_row.items())}
    if len(per_row) > 1:
        page.figure(plots.bars(_most(per_row, sort=False), title="Judgments a row"), "Rows by judgments.")


def _judge(judge: Judge) -> list[str]:
    decided = judge.pairs + judge.ties
    seconds = judge.as_dict()["seconds"]
    shares = (judge.longer_wins, judge.first_shown_wins, judge.agreement, judge.gold)
    return [
        f"{judge.judgments:,}",
        share(judge.ties / decided) if judge.ties else "–",
        "–" if seconds is None else number(seconds),
        *(share(s.hits / s.n) if s.n else "–" for s in shares),
    ]


def _lengths(page: Page, found: Overview) -> None:
    counted = found.statistics
    page.heading("Lengths")
    rows = [
        [name, length["mean"], length["median"], length["p95"], length["max"]]
        for name, length in (
            (key.replace("_lengths", ""), counted.as_dict()[key])
            for key in ("prompt_lengths", "completion_lengths")
        )
        if length
    ]
    page.table(["characters", "mean", "median", "95% below", "longest"], rows)
    for name, lengths in (
        ("prompts", counted.prompt_lengths),
        ("completions", counted.completion_lengths),
    ):
        if lengths:
            ordered = sorted(lengths[:: 1 + len(lengths) // DRAWN])
            edge = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            page.figure(
                plots.histogram(
                    {name: [value for value in ordered if value <= edge]},
                    x_label="characters",
                    title=f"Length of {name}",
                ),
                f"Length of the {name}, without the longest 1%.",
            )


def _completions(page: Page, found: Overview) -> None:
    if not found.statistics.completions:
        return
    page.heading("Completions")
    counts = found.statistics.completions_per_row
    page.text(
        "Rows by their number of completions: "
        + ", ".join(f"{rows:,} with {count}" for count, rows in sorted(counts.items()))
        + "."
    )
    if not found.faults:
        page.text(
            "None is empty, cut off, repetitive, a refusal or a copy of the prompt, as far as rules tell."
        )
        return
    page.table(
        ["looks", "completions", "share"],
        [
            [fault, count, share(count / found.statistics.completions)]
            for fault, count in found.faults.most_common()
        ],
        "Found by stated rules (docs/quality.md), to be looked at rather than believed.",
    )
    for fault, examples in sorted(found.fault_examples.items()):
        if fault != "empty":
            shown = (f"{name}\n{_short(text, 700, tail=fault == 'truncated')}" for name, text in examples)
            page.code("\n\n".join(shown), f"Examples: {fault}")


def _repeats(page: Page, found: Overview, threshold: float) -> None:
    page.heading("Duplicates")
    page.table(
        ["kind", "clusters", "rows beyond the first", "largest cluster"],
        [
            [
                "the same prompt",
                len(found.exact),
                repeats(found.exact),
                max(map(len, found.exact), default=0),
            ],
            [
                f"alike by {threshold:g} or more",
                len(found.near),
                repeats(found.near),
                max(map(len, found.near), default=0),
            ],
        ],
    )
    limit = f" Sought among the first {NEAR_MOST:,} rows." if found.near_rows == NEAR_MOST else ""
    page.text(
        "Alike: the Jaccard similarity of the prompts' 5-character shingles, the same prompts included."
        f"{limit} Case, spacing and system turns are left out."
    )
    if found.near_examples:
        shown = [
            f"{similarity:.2f}\n{_short(first, 300)}\n{_short(second, 300)}"
            for first, second, similarity in found.near_examples
        ]
        page.code("\n\n".join(shown), "Examples of prompts that are nearly the same")


def _languages(page: Page, found: Overview) -> None:
    if not found.prompt_languages and not found.completion_languages:
        return
    page.heading("Languages")
    for name, counts in (("prompts", found.prompt_languages), ("completions", found.completion_languages)):
        total = counts.total()
        if total:
            rows = [(code, 100 * count / total) for code, count in _most(counts)]
            page.figure(
                plots.bars(rows, x_label="percent", title=f"Languages of {name}"),
                f"Languages of {name}, of {total:,} texts.",
            )
    size = len(found.sample)
    what = "all rows" if size == found.statistics.rows else f"{SAMPLE:,} rows drawn at random"
    page.text(f"Told from the start of the last question and of up to two completions of {what}.")


def _personal(page: Page, found: Overview) -> None:
    page.heading("Personal data")
    if not found.personal:
        page.text("No e-mail address, phone number, card, IBAN, IP address or key was found.")
        return
    kinds: Counter[str] = Counter()
    for (kind, _), count in found.personal.items():
        kinds[kind] += count
    page.figure(plots.bars(kinds.most_common(), title="Personal data by kind"), "Findings by kind.")
    page.table(
        ["kind", "where", "findings"],
        [[kind, field, count] for (kind, field), count in found.personal.most_common(20)],
    )
    page.table(
        ["row", "kind", "where", "value, hidden"],
        [[name, place.kind, place.field, place.masked] for name, place in found.personal_examples],
        f"The first {len(found.personal_examples)} rows with a finding.",
    )


def _contamination(page: Page, found: Overview, evaluation: str) -> None:
    page.heading("Contamination")
    page.text(
        f"{found.contaminated:,} rows share 13 words in a row, or a whole shorter turn, with one of the "
        f"{found.evaluation_rows:,} prompts of {evaluation}."
    )
    if found.overlaps:
        page.table(
            ["row", "evaluation row", "where", "shared words"],
            [[name, hit.evaluation, hit.place, _short(hit.shared, 200)] for name, hit in found.overlaps],
            f"The first {len(found.overlaps)}.",
        )


def _balance(page: Page, found: Overview) -> None:
    labels = found.labels
    groups: list[tuple[str, Counter[str]]] = [
        ("labels", labels.labels),
        ("sources of completions", labels.sources),
        ("tags", labels.tags),
        ("splits", labels.splits),
    ]
    for scale, values in list(labels.ratings.items())[:BARS]:
        rated = Counter({f"{value:g}": count for value, count in sorted(values.items())})
        groups.append((f"rating {scale}", rated))
    shown = [(name, counts) for name, counts in groups if len(counts) > 1]
    if shown:
        page.heading("Balance")
    for name, counts in shown:
        page.figure(
            plots.bars(_most(counts, sort=not name.startswith("rating")), title=name.capitalize()),
            f"{name.capitalize()}: {len(counts):,} kinds.",
        )


def _examples(page: Page, found: Overview) -> None:
    page.heading("Examples")
    shown = found.sample[:EXAMPLES]
    page.text(f"{len(shown)} rows drawn at random, not picked. Long texts are cut.")
    page.samples([_sample(record) for record in shown])


def _sample(record: Record) -> Sample:
    best = best_completion(record) if record.judgments else None
    columns = []
    for index, completion in enumerate(record.completions[:4]):
        source = completion.source.name or completion.source.kind if completion.source else ""
        columns.append(
            Column(
                source or f"completion {index}",
                _short("\n\n".join(turn.content for turn in completion.turns()), 1_200),
                "preferred" if index == best else "",
                "good" if index == best else "plain",
            )
        )
    return Sample([(turn.role, _short(turn.content, 1_200)) for turn in record.prompt], columns)


def _marks(rows: Sequence[tuple[str, Share]]) -> list[tuple[str, float, float, float]]:
    known = [(name, interval) for name, s in rows if (interval := s.as_dict())]
    return [(name, interval["value"], interval["low"], interval["high"]) for name, interval in known]


def _most(counts: dict[str, int], sort: bool = True) -> list[tuple[str, float]]:
    """The most frequent, the rest as one."""
    ordered = sorted(counts.items(), key=lambda item: -item[1]) if sort else list(counts.items())
    rest = sum(count for _, count in ordered[BARS:])
    return [*ordered[:BARS], *([(f"{len(ordered) - BARS:,} others", rest)] if rest else [])]


def _short(text: str, most: int, tail: bool = False) -> str:
    if len(text) <= most:
        return text
    return f"…{text[-most:]}" if tail else f"{text[:most]}…"
