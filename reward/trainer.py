"""TRL's RewardTrainer on whole comparisons: a completion is read once, however many pairs it is in.

All pairs of a prompt stand in one batch (Ouyang et al., arXiv 2203.02155, section 3.4): a ranking of four
completions costs four forward passes instead of twelve, and no completion is seen again in a later batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from trl import RewardTrainer

from alignment.backend.batching import LengthGroupedSampler, pad_right, unpadded_tokens
from alignment.errors import UserError
from reward.losses import centering_penalty, choices, pairwise_loss, plackett_luce, wins

Batch = dict[str, Any]


class ComparisonTrainer(RewardTrainer):
    """Rows are what is known of one prompt's completions, as `reward.rows` makes them.

    The model must read its score at the last attended token (alignment.backend.models.load_reward_model): TRL
    leaves that to transformers, which looks for pad ids. It may have several outputs, the members of an
    ensemble: the loss is the mean of theirs. smoothing: of the labels of pairs (see losses.pairwise_loss).
    """

    args: Any  # a RewardConfig

    def __init__(self, model: Any, smoothing: float = 0.0, **options: Any) -> None:
        self.smoothing = smoothing
        self._tallies: list[torch.Tensor] = []
        config = model.config.get_text_config()
        outputs, config.num_labels = config.num_labels, 1  # which TRL insists on
        super().__init__(model=model, **options)
        config.num_labels = outputs

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Rows come tokenized."""
        return dataset

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch (see ComparisonCollator), the mean over its choices whatever its parts."""
        losses: list[torch.Tensor] = []
        for part in inputs.get("parts", [inputs]):
            loss, tally, outputs = self._part_loss(model, part)
            losses.append(loss)
            self._tallies.append(tally)
        if "share" not in inputs:
            self._record(model.training)
        total = torch.stack(losses).sum() if len(losses) > 1 else losses[0]
        return (total, outputs) if return_outputs else total

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """One backward pass a part: no more than a part's activations are held at a time."""
        if "parts" not in inputs:
            return super().training_step(model, inputs, num_items_in_batch)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise UserError("token_budget does not go with sharded training: leave it out")
        parts, losses = inputs["parts"], []
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            # ranks may have different numbers of parts: their gradients meet at the last one
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        self._record(training=True)
        return torch.stack(losses).sum()

    def _part_loss(self, model: Any, part: Batch) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """A part's share of the loss, its share of the metrics (accuracy, margin, reward), the outputs."""
        outputs = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"])
        scores = outputs.logits.float()  # (N, M)
        level = scores + part["offset"][:, None] if "offset" in part else scores
        kind = self._ranking_loss if "ranks" in part else self._pair_loss
        loss, better, worse = kind(part, level)
        share = part.get("share", 1.0)
        with torch.no_grad():
            better, worse = better.mean(-1), worse.mean(-1)
            values = torch.stack([wins(better, worse).mean(), (better - worse).mean(), scores.mean()])
        return loss * share, values * share, outputs

    def _pair_loss(self, part: Batch, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        better, worse = level[part["better"]], level[part["worse"]]  # (P, M)
        weight = part["weight"][:, None]
        if "draws" in part:
            weight = weight * part["draws"]
        margin = part["margin"][:, None] if "margin" in part else None
        loss = pairwise_loss(better, worse, margin, weight, self.smoothing)
        coefficient = self.args.center_rewards_coefficient
        if coefficient is not None:
            loss = loss + coefficient * centering_penalty(better, worse)
        return loss, better, worse

    def _ranking_loss(
        self, part: Batch, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ranks, scores = part["ranks"], level[part["places"]]  # (R, K), (R, K, M)
        losses = torch.stack([plackett_luce(column, ranks) for column in scores.unbind(-1)], dim=1)
        if "draws" in part:
            losses = losses * part["draws"]
        count = choices(ranks)[:, None]
        total = count.sum() * losses.shape[1]
        loss = losses.sum() / total
        present = (ranks > 0)[..., None]
        coefficient = self.args.center_rewards_coefficient
        if coefficient is not None:  # twice the mean: of a pair the sum, as in `centering_penalty`
            mean = (scores * present).sum(1) / present.sum(1)
            loss = loss + coefficient * (count * (2 * mean).square()).sum() / total
        best = ranks.masked_fill(ranks == 0, 1 << 30).argmin(1)
        worst, row = ranks.argmax(1), torch.arange(len(ranks), device=ranks.device)
        return loss, scores[row, best], scores[row, worst]

    def _record(self, training: bool) -> None:
        """Metrics of the parts since the last call, which were a batch."""
        values = torch.stack(self._tallies).sum(0).unsqueeze(0)
        self._tallies.clear()
        means = self.accelerator.gather_for_metrics(values).mean(dim=0)
        mode = "train" if training else "eval"
        for name, value in zip(("accuracy", "margin", "mean_reward"), means, strict=True):
            self._metrics[mode][name].append(value)  # on its device: reading it would wait for the GPU

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's, with the metrics read only now."""
        for metrics in self._metrics.values():
            metrics.update({name: [float(value) for value in values] for name, values in metrics.items()})
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """transformers' own length grouping draws a new order after a resume; ours repeats it."""
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch = self._train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(data["length"], batch * self.args.world_size, self.args.seed)


class ComparisonCollator:
    """Rows to a batch: the texts of all prompts, and what is known of them as places among the texts.

    token_budget: cut the batch into parts of at most so many tokens (padded: with padding, which the model
    then does not skip), rows of like length together.
    """

    def __init__(self, pad_id: int, token_budget: int | None = None, padded: bool = True) -> None:
        self.pad_id, self.token_budget, self.padded = pad_id, token_budget, padded

    def __call__(self, rows: Sequence[Batch]) -> Batch:
        """{"input_ids", "attention_mask": (N texts, T)[, "offset": (N,)]} and of P pairs {"better", "worse":
        (P,) int64 places among the texts, "weight"[, "margin"]: (P,)[, "draws": (P, M)]}, or of R rankings
        {"places", "ranks": (R, K) int64, 0 where a ranking is shorter[, "draws": (R, M)]}. With a budget
        {"parts": such batches, each with its "share" of the choices}."""
        if self.token_budget is None:
            return self._batch(rows)
        groups: list[list[Batch]] = []
        for row in sorted(rows, key=lambda row: -row["length"]):
            if groups and self._tokens([*groups[-1], row]) <= self.token_budget:
                groups[-1].append(row)
            else:
                groups.append([row])
        counts = [sum(map(_choices, group)) for group in groups]
        shares = [count / sum(counts) for count in counts]
        return {
            "parts": [
                {**self._batch(group), "share": share} for group, share in zip(groups, shares, strict=True)
            ]
        }

    def _tokens(self, rows: Sequence[Batch]) -> int:
        lengths = [len(text) for row in rows for text in row["texts"]]
        longest = max(lengths)
        if self.padded:
            return longest * len(lengths)
        return sum(unpadded_tokens(length, longest) for length in lengths)

    def _batch(self, rows: Sequence[Batch]) -> Batch:
        ids, mask = pad_right([text for row in rows for text in row["texts"]], self.pad_id)
        batch = {"input_ids": ids, "attention_mask": mask}
        first = torch.tensor([0] + [len(row["texts"]) for row in rows[:-1]]).cumsum(0).tolist()
        kind = "places" if "places" in rows[0] else "better"
        if kind == "places":
            places = [
                [start + at for at in one]
                for start, row in zip(first, rows, strict=True)
                for one in row[kind]
            ]
            batch["places"] = _filled(places)
            batch["ranks"] = _filled([one for row in rows for one in row["ranks"]])
        else:
            for key in ("better", "worse"):
                at = [start + place for start, row in zip(first, rows, strict=True) for place in row[key]]
                batch[key] = torch.tensor(at)
        for key in ("weight", "margin", "offset"):
            if key in rows[0]:
                values = [value for row in rows for value in row[key]]
                batch[key] = torch.tensor(values, dtype=torch.float32)
        if "draws" in rows[0]:
            batch["draws"] = torch.tensor(
                [row["draws"] for row in rows for _ in row[kind]], dtype=torch.float32
            )
        return batch


def _filled(lists: list[list[int]]) -> torch.Tensor:
    """(R, K) int64, shorter lists filled up with 0."""
    width = max(map(len, lists))
    return torch.tensor([[*values, *[0] * (width - len(values))] for values in lists])


def _choices(row: Batch) -> int:
    """How many choices, pairs or of rankings, a row is made of."""
    return len(row["better"]) if "better" in row else sum(len(one) - 1 for one in row["ranks"])
