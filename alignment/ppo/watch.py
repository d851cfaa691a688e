"""Signs that a reward is being exploited: it rises, and so does what a reward model is easily pleased by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from alignment.backend.progress import say

LEAST = 3  # logged rollouts at either end that are compared
# metric, how it is called, and from what rise on it is told: as a factor, and as a difference
SIGNS = (
    ("completions/mean_length", "length", 1.5, 5.0),
    ("repetition", "repetition", 1.5, 0.05),
    ("reward_disagreement", "disagreement of the ensemble", 1.5, 0.0),
)


def rising_with_reward(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Sentences on what rose together with the score; [] if the score did not rise or too little is known.

    history: logged rollouts with "score", "score_std" and the metrics of SIGNS, in order. The first quarter
    is compared with the last (at least LEAST rollouts each). The score has risen when its mean has by more
    than a quarter of its first standard deviation over completions.
    """
    rollouts = [entry for entry in history if "score" in entry and "score_std" in entry]
    size = max(LEAST, len(rollouts) // 4)
    if len(rollouts) < 2 * size:
        return []

    def ends(name: str) -> tuple[float, float]:
        first, last = rollouts[:size], rollouts[-size:]
        return sum(e[name] for e in first) / size, sum(e[name] for e in last) / size

    before, after = ends("score")
    if after - before <= 0.25 * ends("score_std")[0]:
        return []
    found = []
    for name, called, factor, difference in SIGNS:
        if all(name in entry for entry in rollouts):
            was, now = ends(name)
            if now > factor * was and now - was > difference:
                found.append(
                    f"the score rose from {before:.3g} to {after:.3g} while {called} went from {was:.3g} to "
                    f"{now:.3g}: look at samples.jsonl whether the reward is being exploited"
                )
    return found


class Watch(TrainerCallback):
    """Says each sign once, as soon as it shows."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for sentence in rising_with_reward(state.log_history):
            sign = sentence.split(" while ")[1].split(" went ")[0]
            if sign not in self.said:
                self.said.add(sign)
                if state.is_world_process_zero:
                    say(f"step {state.global_step}: {sentence}")
