"""The page's judges and controls: how those who judged behaved, and what would give a hollow victory away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignment.evaluation.phrases import shares, signed, spread, title
from alignment.report.page import Page
from alignment.report.text import number, percent

if TYPE_CHECKING:
    from alignment.evaluation.report import Evidence


def judges(page: Page, report: dict[str, Any]) -> None:
    """How an LLM judge behaved, how far people agree, and what other judges say."""
    judges = [report["judge"], *report["other_judges"]]
    rows: list[list[str]] = []
    for judge in judges:
        name = judge["name"]
        if "asked" in judge:
            counts = f"{judge['asked']:,} asked, {judge['unread']:,} without a verdict"
            changed = f"{judge['changed_with_order']:,} verdicts changed with the order and count as ties."
            rows.append([f"{name}: replies", counts, changed])
        if judge.get("position"):
            rows.append(
                [
                    f"{name}: chose the answer shown first",
                    spread(judge["position"]),
                    "One half, if it looks at the answers alone.",
                ]
            )
        if judge.get("agreement"):
            said = judge["agreement"]
            alpha = "–" if said["alpha"] is None else number(said["alpha"])
            rows.append(
                [
                    f"{name}: agreement",
                    spread(said),
                    f"Share of {said['n']:,} pairs of verdicts that are the same, ties included; "
                    f"Krippendorff's alpha {alpha}, {said['people']} people.",
                ]
            )
        for comparison, agreement in judge.get("agreement_with_judge", {}).items():
            rate = judge["win_rate"][comparison]
            share, interval = shares(rate)
            same = "–" if agreement is None else f"{spread(agreement)}, kappa {number(agreement['kappa'])}"
            rows.append(
                [
                    f"{name}: {title(comparison)}",
                    f"{share} [{interval}]",
                    f"The same verdict as {report['judge']['name']}: {same}.",
                ]
            )
    if rows:
        page.heading("The judges")
        page.table(["judge", "figure", "what it means"], rows)
    for judge in report["other_judges"]:
        page.text(f"Asked besides: {judge['statement']}")


def checks(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    """The honesty controls, each with what it should have shown."""
    page.heading("Checks against a hollow victory")
    controls = report["controls"]
    rows: list[list[str]] = []
    for name, rate in controls["shuffled_prompts"].items():
        share, interval = shares(rate)
        real = percent(report["win_rate"][name]["rate"])
        rows.append(
            [
                f"{title(name)}, prompts shuffled",
                f"{share} [{interval}]",
                f"Answers judged against another prompt. With the right prompts it is {real}; the nearer "
                "this is to one half, the more of the win has to do with the request.",
            ]
        )
    for name, length in controls["length"].items():
        longer = percent(length["longer_won"])
        rows.append(
            [
                f"{title(name)}, change in length",
                f"{signed(length)} words",
                f"The longer of the two answers won {longer} of the decided comparisons.",
            ]
        )
    for name, fall in controls["log_likelihood"].items():
        verdict = "A large fall: read the samples." if fall["flagged"] else "No large fall."
        rows.append(
            [
                f"{name}, log-likelihood against {fall['against']}",
                f"{signed(fall)} nats a token",
                f"{verdict} A fall of more than {number(evidence.config.likelihood_fall)} is flagged.",
            ]
        )
    accuracy = report.get("reward_model", {}).get("accuracy")
    if accuracy:
        rows.append(
            [
                "reward model, held-out accuracy",
                spread(accuracy),
                f"Share of {accuracy['n']:,} held-out pairs ordered as the judges did.",
            ]
        )
    chance = controls["reward_on_shuffled_labels"]
    if chance:
        rows.append(
            ["the same, trained on shuffled labels", spread(chance), "Nothing to learn: about one half."]
        )
    page.table(["check", "figure", "what it means"], rows)
