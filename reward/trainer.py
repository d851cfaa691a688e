"""TRL's RewardTrainer on whole comparisons: a completion is read once, however many pairs it is in.

All pairs of a prompt stand in one batch (Ouyang et al., arXiv 2203.02155, section 3.4): a ranking of four
completions costs four forward passes instead of twelve, and no completion is seen again in a later batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl import RewardTrainer

from alignment.backend.batching import LengthGroupedSampler, pad_right
from reward.losses import centering_penalty, pairwise_loss, wins


class ComparisonTrainer(RewardTrainer):
    """Rows are the comparisons of one prompt, as `reward.stage.comparisons` makes them.

    The model must read its score at the last attended token (alignment.backend.models.load_reward_model): TRL
    leaves that to transformers, which looks for pad ids.
    """

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Rows come tokenized."""
        return dataset

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Bradley-Terry loss over all pairs of a batch (see ComparisonCollator)."""
        args: Any = self.args
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        scores = outputs.logits.squeeze(-1).float()
        better, worse = scores[inputs["better"]], scores[inputs["worse"]]
        loss = pairwise_loss(better, worse, inputs.get("margin"), inputs["weight"])
        if args.center_rewards_coefficient is not None:
            loss = loss + args.center_rewards_coefficient * centering_penalty(better, worse)
        with torch.no_grad():
            values = torch.stack([wins(better, worse).mean(), (better - worse).mean(), scores.mean()])
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


class ComparisonCollator:
    """Rows to a batch: the texts of all prompts, and the pairs as places among them."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """{"input_ids", "attention_mask": (N texts, T), "better", "worse": (P pairs,) int64 places among the
        texts, "weight"[, "margin"]: (P,) float32}."""
        ids, mask = pad_right([text for row in rows for text in row["texts"]], self.pad_id)
        batch = {"input_ids": ids, "attention_mask": mask}
        first = torch.tensor([0] + [len(row["texts"]) for row in rows[:-1]]).cumsum(0).tolist()
        for key in ("better", "worse"):
            places = [start + place for start, row in zip(first, rows, strict=True) for place in row[key]]
            batch[key] = torch.tensor(places)
        for key in ("weight", "margin"):
            if key in rows[0]:
                values = [value for row in rows for value in row[key]]
                batch[key] = torch.tensor(values, dtype=torch.float32)
        return batch
