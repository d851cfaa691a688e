"""What PPO, RLOO and GRPO maximise: one scorer, or a weighted sum of several, each perhaps an ensemble."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignment.backend.ensembles import Combine, combined
from alignment.errors import UserError

# (prompts as messages, completions as text, whether each ended by itself) -> one score each
Reward = Callable[[list[Any], list[str], list[bool]], Sequence[float]]


@dataclass(frozen=True)
class Part:
    """One reward of a sum: a scorer, its weight, and how the scores of its members become one."""

    name: str
    scorer: Any
    weight: float = 1.0
    combine: Combine = "mean"
    penalty: float = 0.1


class RewardSum:
    """Σ weight·reward over the parts: (prompts, completions, finished) -> one float each.

    After a call `parts` holds each part's own numbers (B,) by name where there are several, `disagreement`
    the standard deviation over the members of an ensemble (B,), a mean over the parts that are ensembles.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        names = [part.name for part in parts]
        if len(set(names)) != len(names):
            raise UserError(f"two rewards have one name: {', '.join(names)}; give each a name of its own")
        self._parts = list(parts)
        self.first = self._parts[0].scorer
        self.parts: dict[str, NDArray[np.float64]] = {}
        self.disagreement: NDArray[np.float64] | None = None

    @property
    def models(self) -> list[Any]:
        """The reward models that are held here; services and functions have none."""
        scorers = [part.scorer for part in self._parts if hasattr(part.scorer, "parts")]
        return [
            model[1] if isinstance(model, tuple) else model for scorer in scorers for model in scorer.parts
        ]

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        found: dict[str, NDArray[np.float64]] = {}
        spreads = []
        for part in self._parts:
            if hasattr(part.scorer, "members"):
                members = np.asarray(part.scorer.members(prompts, completions, finished), dtype=np.float64)
                scores = combined(members, part.combine, part.penalty)
                if members.shape[1] > 1:
                    spreads.append(members.std(axis=1))
            else:
                scores = np.asarray(part.scorer.score(prompts, completions, finished), dtype=np.float64)
            if scores.shape != (len(completions),):
                raise UserError(f"{part.name} gave {len(scores)} scores for {len(completions)} completions")
            found[part.name] = scores
        self.disagreement = np.mean(spreads, axis=0) if spreads else None
        self.parts = found if len(found) > 1 else {}
        return sum(part.weight * found[part.name] for part in self._parts).tolist()  # type: ignore[union-attr]


class FunctionScorer:
    """A Python function of the user's as a scorer: "module:function" of (prompts, completions, finished)."""

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        if os.getcwd() not in sys.path:  # the last: a file here takes no installed module's place
            sys.path.append(os.getcwd())
        try:
            self.function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"reward function {path!r} cannot be found ({error}); write module:function, with the module "
                "in the current folder or where Python finds it (PYTHONPATH)"
            ) from None
        self.name = path

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], finished: Sequence[bool] | None = None
    ) -> list[float]:
        return [float(score) for score in self.function(prompts, completions, finished)]


def scored(
    reward: Reward, prompts: list[Any], texts: list[str], finished: list[bool]
) -> tuple[Tensor, dict[str, Tensor]]:
    """(B,) float32 from one call of the reward, and by metric what a RewardSum tells of its parts (B,).

    UserError when a score is missing or not a number.
    """
    scores = torch.tensor([float(score) for score in reward(prompts, texts, finished)])
    if len(scores) != len(texts):
        raise UserError(f"the reward gave {len(scores)} scores for {len(texts)} completions")
    if not bool(scores.isfinite().all()):
        row = int((~scores.isfinite()).nonzero()[0, 0])
        raise UserError(f"the reward is {scores[row]} for completion {texts[row]!r} of {prompts[row]!r}")
    parts: dict[str, Tensor] = {}
    if isinstance(reward, RewardSum):
        parts = {f"rewards/{name}": torch.from_numpy(values) for name, values in reward.parts.items()}
        if reward.disagreement is not None:
            parts["reward_disagreement"] = torch.from_numpy(reward.disagreement)
    return scores, parts
