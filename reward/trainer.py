"""TRL's RewardTrainer with votes as weights, and batches of like length whose order survives a resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl import RewardTrainer

from alignment.backend.batching import LengthGroupedSampler, pad_right
from reward.losses import centering_penalty, pairwise_loss, wins


class PairTrainer(RewardTrainer):
    """Rows are {"chosen_ids", "rejected_ids", "length", "weight"[, "margin"]}.

    The model must read its score at the last attended token (alignment.backend.models.load_reward_model): TRL
    leaves that to transformers, which looks for pad ids.
    """

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Bradley-Terry loss of a batch whose first half of rows is chosen, the second rejected."""
        args: Any = self.args
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        chosen, rejected = outputs.logits.squeeze(-1).float().chunk(2)
        loss = pairwise_loss(chosen, rejected, inputs.get("margin"), inputs["weight"])
        if args.center_rewards_coefficient is not None:
            loss = loss + args.center_rewards_coefficient * centering_penalty(chosen, rejected)
        with torch.no_grad():
            values = torch.stack(
                [wins(chosen, rejected).mean(), (chosen - rejected).mean(), outputs.logits.float().mean()]
            )
            values = self.accelerator.gather_for_metrics(values.unsqueeze(0)).mean(dim=0).tolist()
        mode = "train" if model.training else "eval"
        for name, value in zip(("accuracy", "margin", "mean_reward"), values, strict=True):
            self._metrics[mode][name].append(value)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """transformers' own length grouping draws a new order after a resume; ours repeats it."""
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch = self._train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(data["length"], batch * self.args.world_size, self.args.seed)


class PairCollator:
    """Rows to a batch: chosen rows, then rejected rows, padded on the right."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """{"input_ids", "attention_mask": (2B, T) int64, "weight"[, "margin"]: (B,) float32}."""
        ids, mask = pad_right(
            [row["chosen_ids"] for row in rows] + [row["rejected_ids"] for row in rows], self.pad_id
        )
        batch = {"input_ids": ids, "attention_mask": mask}
        for key in ("weight", "margin"):
            if key in rows[0]:
                batch[key] = torch.tensor([row[key] for row in rows], dtype=torch.float32)
        return batch
