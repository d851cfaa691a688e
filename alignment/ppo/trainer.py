"""PPO (Schulman et al., arXiv 1707.06347) for language models, on TRL's RLOOTrainer.

RLOOTrainer brings prompts, generation (transformers or vLLM), PEFT and logging. Ours is what RLOO has not:
a critic, GAE, shaped rewards, PPO's losses, and a resume that repeats an unbroken run bit for bit. A cycle is
roll out, score, measure, returns, and then the updates; each is a method. Formulas are in losses.py.
"""

from __future__ import annotations

import copy
import os
import shutil
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, set_seed
from trl import RLOOTrainer
from trl.trainer.utils import use_adapter

from alignment.backend.chat import say_once
from alignment.backend.online import completion_text
from alignment.backend.online_trainer import (
    PromptSampler,
    check_prompts,
    drop_samples_from,
    graph_completions,
    graph_engine,
    own_distribution,
)
from alignment.backend.packed import compile_layers, why_not_packed
from alignment.backend.rewards import Reward, scored
from alignment.ppo import losses
from alignment.ppo.checkpoint import load_state, save_state
from alignment.ppo.config import PPOConfig
from alignment.ppo.critic import Critic, critic_apart, critic_of_policy, join, without_dropout
from alignment.ppo.heldout import held_out_metrics
from alignment.ppo.metrics import (
    Clock,
    fill_table,
    rollout_metrics,
    rollout_sums,
    update_metrics,
    write_samples,
)
from alignment.ppo.reference import FollowPolicy, adapter_of_reference, add_frozen_adapter, prepared
from alignment.ppo.rollout import Rollout, forward_arguments, measure, pack, shuffled, token_values
from alignment.ppo.sampling import safe_sync
from alignment.ppo.watch import Watch

CRITIC = "critic.safetensors"  # in a checkpoint


class PPOTrainer(RLOOTrainer):
    """Trains a policy and a critic on a reward.

    Args:
        model: the policy, a causal language model or a PeftModel of one; as given it is also the reference.
        reward: any callable of the shape `Reward`; it sees each text once. Of a RewardSum the parts and the
            disagreement of ensembles are among the metrics.
        train_dataset: rows with "prompt" (messages, or plain text).
        eval_dataset: the same, for `evaluate`: the reward on prompts that are not trained on.
        critic: None builds one from the policy.
        peft_config: an adapter for TRL to put on the policy; the critic then gets one of its own.
        samples_path: JSON lines of sampled completions; None writes none.

    Raises UserError for a dataset that does not fill one rollout, and for rewards that are not numbers.
    """

    args: Any  # a PPOConfig; TRL leaves numbers optional that are always set
    model: Any
    ref_model: Any
    train_dataset: Any
    loss_is_scaled_for_ga = True  # a micro-batch's loss is its share of the optimiser batch's mean
    _name = "PPO"
    _tag_names = ["trl", "ppo"]  # noqa: RUF012 (declared so by TRL)
    _paper = {"title": "Proximal Policy Optimization", "id": "1707.06347"}  # noqa: RUF012

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        reward: Reward,
        args: PPOConfig,
        train_dataset: Dataset,
        processing_class: PreTrainedTokenizerBase,
        critic: Critic | None = None,
        peft_config: LoraConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        eval_dataset: Dataset | None = None,
        samples_path: str | Path | None = None,
    ) -> None:
        if isinstance(reward, torch.nn.Module) or not callable(reward):
            raise TypeError(
                "reward must be a callable of (prompts, completions, finished): a scorer's .score"
            )
        check_prompts(len(train_dataset), args)
        set_seed(args.seed)
        lora: Any = model.peft_config["default"] if isinstance(model, PeftModel) else peft_config
        if critic is None:
            critic = critic_of_policy(model, lora, share=not args.sharded)
        # TRL would load the reference from where the policy's config says it came from: ours is the policy.
        reference = copy.deepcopy(model).eval().requires_grad_(False) if lora is None and args.beta else None
        beta, args.beta, follow, args.sync_ref_model = args.beta, 0.0, args.sync_ref_model, False
        super().__init__(
            model=model,
            reward_funcs=[reward],  # type: ignore[list-item]  # TRL takes its name, `_score` calls it
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=[Watch(), *(callbacks or [])],
            peft_config=peft_config,
        )
        args.beta = self.beta = self.kl_coef = beta
        args.sync_ref_model = follow
        self.reward = reward
        self.scale = losses.RunningScale()
        self.samples_path = None if samples_path is None else Path(samples_path)
        if self.place_model_on_device:
            self._move_model_to_device(critic, args.device)
        if args.activation_checkpointing:  # Trainer reaches the policy's layers only
            critic.backbone.activation_checkpointing_enable(args.activation_checkpointing_kwargs)
        with self.accelerator.autocast():  # as they will run
            # Before the two are joined: it may decode with a copy of the policy.
            self.engine = graph_engine(self.model, args, args.compile_layers)
            if self._sharded:
                reason: str | None = "FSDP and DeepSpeed shard the weights"
            else:  # the critic may be of another family
                reason = why_not_packed(self.model) or why_not_packed(critic.backbone)
        if reason is not None:
            say_once(f"updates are padded: {reason}")
        join(self.model, critic, packed=reason is None)
        without_dropout(self.model)
        if args.compile_layers:
            compile_layers(self.model)
        if reference is not None:
            self.ref_model = prepared(reference, self, packed=reason is None)
            if args.compile_layers:
                compile_layers(self.ref_model)
        self.follower: FollowPolicy | None = None
        if follow:
            if reference is None and adapter_of_reference(self.policy) is None:
                add_frozen_adapter(self.policy)
            self.follower = FollowPolicy(self.policy, reference)
            self.add_callback(self.follower)
        self.resting = False  # the actor, for what is left of this rollout (target_kl)
        self.rollout: Rollout = {}
        self._sums: Tensor | None = None
        self.clock = Clock()

    @property
    def policy(self) -> Any:
        """The unwrapped policy, critic attached."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def _sharded(self) -> bool:
        """FSDP and DeepSpeed clip, save and load the model that they wrap in their own way, critic too."""
        return self.is_deepspeed_enabled or self.is_fsdp_enabled

    # ---- a cycle: rollout, score, measure, returns ----

    @property
    def _position(self) -> int:
        """Micro-batches since the start of the cycle."""
        return self._step % (self.args.steps_per_generation * self.num_iterations)

    def _prepare_inputs(self, examples: Any) -> dict[str, Any]:
        """A micro-batch of the current rollout; at the start of a cycle, of a new one for `examples`."""
        if self._position == 0:
            self.rollout = self._generate_and_score_completions(examples)
        micro = self._position % self.args.steps_per_generation
        if micro == 0:  # an epoch over the rollout begins
            accumulation = self.args.gradient_accumulation_steps
            size = self.args.per_device_train_batch_size * accumulation
            order = shuffled(self.rollout, size, accumulation)
            self.rollout["tokens"] = self._sum(self.rollout["lengths"][order].sum(dim=1).double())
            self.rollout["order"] = order.view(self.args.steps_per_generation, -1)
        rows = self.rollout["order"][micro]
        per_token = ("old_logps", "old_values", "advantages", "returns")
        return {
            "forward": self._to_forward(forward_arguments(self.rollout, rows)),
            "tokens": self.rollout["tokens"][micro // self.args.gradient_accumulation_steps],
            **self._on_device(token_values(self.rollout, rows, per_token)),
        }

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Rollout:
        """All that the updates of a cycle need, for one completion of each prompt of this rank."""
        prompts = [row["prompt"] for row in inputs]
        with self.clock("rollout"):
            rollout, texts = self._roll_out(prompts)
        with self.clock("score"):
            rollout["scores"], parts = self._score(prompts, texts, rollout["finished"].tolist())
            shaped = self._shape(rollout)
        with self.clock("measure"):
            size = self.args.local_rollout_forward_batch_size
            if size is None and self.args.device.type != "cuda":  # where all logits are held
                size = self.args.per_device_train_batch_size
            rollout |= measure(rollout, size, self._measure)
        rollout |= self._returns(rollout, shaped)
        self._finish_rollout(rollout, prompts, texts, parts)
        return rollout

    def _roll_out(self, prompts: list[Any]) -> tuple[Rollout, list[str]]:
        """Sample a completion for each prompt from the policy, unwarped."""
        size = self.args.rollout_batch_size or len(prompts)
        with own_distribution(self.policy), safe_sync(self.policy) if self.use_vllm else nullcontext():
            parts = [self._generate(prompts[i : i + size]) for i in range(0, len(prompts), size)]
        prompt_ids, completion_ids, completions = (
            list(chain(*column)) for column in zip(*parts, strict=True)
        )
        rollout = pack(prompt_ids, completion_ids, self._tokenizer.pad_token_id)
        rollout["finished"] = torch.tensor([ids[-1] in self.eos_token_ids for ids in completion_ids])
        return rollout, [completion_text(item) for item in completions]

    def _generate_single_turn(self, prompt_ids: Any, images: Any, multimodal_fields: Any) -> Any:
        """Completion ids for prompt ids: TRL's, or the graph engine's."""
        if self.engine is None:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields)
        return graph_completions(self, prompt_ids)

    def _score(self, prompts: list[Any], texts: list[str], finished: list[bool]) -> Any:
        """Scores (B,) and what the reward tells of its parts; see rewards.scored."""
        return scored(self.reward, prompts, texts, finished)

    def _shape(self, rollout: Rollout) -> Tensor:
        """(B,) scores as they enter the rewards: scaled, clipped, less penalties (in the scaled unit)."""
        args, scale = self.args, 1.0
        if args.scale_rewards:
            self.scale.update(self._sum(losses.moments(rollout["scores"])))
            scale = self.scale.scale
        shaped = losses.clipped_scores(rollout["scores"], scale, args.reward_clip)
        shaped -= args.missing_eos_penalty * ~rollout["finished"]
        shaped -= args.short_penalty * (rollout["lengths"] < args.min_completion_length)
        if args.critic_bias == "mean" and self.state.global_step == 0:
            mean, _ = losses.mean_variance(self._sum(losses.moments(shaped)))
            self.policy.critic.head.bias.data.fill_(mean)
        return shaped

    def _measure(self, batch: Rollout) -> Rollout:
        """Log-probabilities under policy and reference, values and entropies, before any update."""
        batch = self._to_forward(batch)
        with torch.no_grad(), self.accelerator.autocast():
            now = self.model(**batch, entropy=True)
            then = self._reference_logps(batch) if self.beta else now["logps"]
        found = {"old_logps": now["logps"], "old_values": now["values"], "entropy": now["entropy"]}
        return {**found, "ref_logps": then}

    def _reference_logps(self, batch: Rollout) -> Tensor:
        """Of the policy as given: a frozen copy, or with an adapter its base or TRL's copy of the adapter."""
        if self.ref_model is not None:
            return self.ref_model(**batch, critic=False)["logps"]
        with use_adapter(self.policy, adapter_of_reference(self.policy)):
            return self.model(**batch, critic=False)["logps"]

    def _returns(self, rollout: Rollout, shaped: Tensor) -> Rollout:
        """Per-token rewards, returns, and advantages whitened over the valid tokens of all ranks: (B, T)."""
        args, lengths = self.args, rollout["lengths"]
        kl = losses.kl_terms(rollout["old_logps"], rollout["ref_logps"], args.kl_estimator)
        rewards = losses.shaped_rewards(kl, shaped, lengths, self.kl_coef)
        advantages, returns = losses.gae(rewards, rollout["old_values"], lengths, args.gamma, args.lam)
        if args.normalize_advantages:
            mask = losses.completion_mask(lengths, rewards.shape[1])
            advantages = losses.whiten(advantages, self._sum(losses.moments(advantages[mask]))) * mask
        return {"rewards": rewards, "advantages": advantages, "returns": returns}

    # ---- updates ----

    @property
    def _critic_alone(self) -> bool:
        """Whether the actor is not trained: in the critic's warm-up, or since an update moved it too far."""
        return self.resting or self.state.global_step < self.args.critic_warmup_steps

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        if self._position == 0:
            self.resting = False
        critic_alone = self._critic_alone  # before the step, whose last micro-batch may change it
        with self.clock("update"):
            loss = super().training_step(model, inputs, num_items_in_batch)
            if critic_alone:  # no gradient, not a zero one: Adam's step count must not move
                with critic_apart(self.policy):
                    self.policy.zero_grad(set_to_none=True)
        if self._position == 0:
            for name, value in self.clock.metrics(self.rollout["tokens"].sum().item()).items():
                self._metrics["train"][name].append(value)
        return loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """This micro-batch's share of the mean over the tokens of the optimiser batch, all ranks.

        L = L_π + vf_coef·L_V − entropy_coef·H; while the actor is not trained vf_coef·L_V alone.
        """
        args = self.args
        # DDP needs a gradient of every parameter, so the actor rests only where there is one process.
        critic_alone = self._critic_alone
        actor = not critic_alone or self.accelerator.num_processes > 1
        out = model(**inputs["forward"], actor=actor, entropy=actor and args.entropy_coef != 0)
        value = losses.value_loss(
            out["values"], inputs["old_values"], inputs["returns"], args.cliprange_value
        )
        loss = args.vf_coef * value.loss
        policy = losses.PolicyLoss(*torch.zeros(4, device=loss.device))
        if not critic_alone:
            clips = (self.epsilon_low, self.epsilon_high, args.dual_clip)
            policy = losses.policy_loss(out["logps"], inputs["old_logps"], inputs["advantages"], *clips)
            loss = loss + policy.loss
            if args.entropy_coef:
                loss = loss - args.entropy_coef * out["entropy"].sum()
        elif actor:
            loss = loss + 0.0 * out["logps"].sum()
        self._tally(torch.stack([x.detach().double() for x in (*policy, *value)]), inputs["tokens"])
        # DDP takes the mean of the ranks' gradients, and we want the sum.
        return loss * self.accelerator.num_processes / inputs["tokens"].item()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Trainer's groups for the policy, and one for the critic with its own learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        with critic_apart(self.policy):
            optimizer = super().create_optimizer(model)
        rate = self.args.critic_learning_rate
        group = {
            "params": [p for p in self.policy.critic.parameters() if p.requires_grad],
            "lr": 9 * self.args.learning_rate if rate is None else rate,
            "weight_decay": self.args.weight_decay,
        }
        optimizer.add_param_group(group)
        return optimizer

    def _clip_grad_norm(self, model: Any) -> Any:
        """Actor and critic are clipped apart, so that a large error of the critic does not slow the actor."""
        if self._sharded:
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        clip, limit = torch.nn.utils.clip_grad_norm_, self.args.max_grad_norm
        self._metrics["train"]["value/grad_norm"].append(clip(self.policy.critic.parameters(), limit).item())
        with critic_apart(self.policy):
            return clip(self.policy.parameters(), limit)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> PromptSampler:
        """RLOOTrainer's, with an order that a resumed run finds again in any epoch."""
        return PromptSampler(self.train_dataset, self.args, lambda: self.state.global_step)

    # ---- checkpoints ----

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The policy alone."""
        if state_dict is not None:
            state_dict = {name: value for name, value in state_dict.items() if not name.startswith("critic.")}
        with critic_apart(self.policy):
            super()._save(output_dir, state_dict)
        # TRL's copy of a given adapter is made again from the model as given.
        shutil.rmtree(Path(output_dir or self.args.output_dir, "ref"), ignore_errors=True)

    def save_critic(self, path: str | Path) -> None:
        """Write the critic's trained weights to one safetensors file, whole or not at all."""
        if self.args.should_save and not self._sharded:
            temporary = f"{path}.tmp"
            self.policy.critic.save(temporary)
            os.replace(temporary, path)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Besides: critic, KL coefficient and running scale, and within a cycle the rollout it works on."""
        super()._save_optimizer_and_scheduler(output_dir)
        os.makedirs(output_dir, exist_ok=True)
        self.save_critic(Path(output_dir, CRITIC))
        save_state(self, Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with critic_apart(self.policy):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if not self._sharded:
            self.policy.critic.load(Path(resume_from_checkpoint, CRITIC))

    def _load_best_model(self) -> None:
        with critic_apart(self.policy):
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            load_state(self, Path(checkpoint))

    # ---- metrics ----

    def _sum(self, values: Tensor) -> Tensor:
        """`values` added up over all ranks, on the CPU."""
        return self.accelerator.reduce(values.to(self.accelerator.device), reduction="sum").cpu()

    def _on_device(self, tensors: Rollout) -> Rollout:
        return {name: tensor.to(self.accelerator.device) for name, tensor in tensors.items()}

    def _to_forward(self, arguments: Rollout) -> Rollout:
        """On the device, but for the lengths, which the forward pass reads: it would wait for the GPU."""
        return {**self._on_device(arguments), "lengths": arguments["lengths"]}

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The reward and what it costs on held-out prompts, by names such as eval_score (see heldout.py)."""
        rows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        found = held_out_metrics(self, [row["prompt"] for row in rows])
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self._metrics["eval"].clear()  # TRL's, of the same samples
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _finish_rollout(
        self, rollout: Rollout, prompts: list[Any], texts: list[str], parts: dict[str, Tensor]
    ) -> None:
        """Metrics and samples of a rollout; then the KL coefficient of the next one."""
        sums = rollout_sums(rollout, texts, parts)
        totals = dict(zip(sums, self._sum(torch.stack(list(sums.values()))).tolist(), strict=True))
        kl, n = totals["kl"] / totals["episodes"], totals["episodes"]
        for name, value in rollout_metrics(totals, self.kl_coef, self.scale.scale).items():
            self._metrics["train"][name].append(value)
        for name in parts:
            self._metrics["train"][name].append(totals[name] / n)
        if self.args.max_kl is not None and kl > self.args.max_kl:
            self.control.should_training_stop = True
        if self.samples_path is not None and self.accelerator.is_main_process:
            step, count = self.state.global_step, self.args.samples_per_rollout
            if step == 0:  # a run that was stopped before its first checkpoint begins anew
                drop_samples_from(self.samples_path, 0)
            write_samples(self.samples_path, step, count, prompts, texts, rollout)
        if self.log_completions:
            fill_table(self._logs, prompts, texts, rollout)
        if self.args.kl_target is not None:
            self.kl_coef = losses.next_kl_coef(self.kl_coef, kl, self.args.kl_target, n, self.args.kl_horizon)

    def _tally(self, sums: Tensor, tokens: Tensor) -> None:
        """Add a micro-batch's sums; at the end of the optimiser batch make metrics of them."""
        self._sums = sums if self._sums is None else self._sums + sums
        if self.accelerator.sync_gradients:
            totals = self._sum(self._sums).tolist()
            found = update_metrics(totals, tokens.item(), not self._critic_alone)
            for name, value in found.items():
                self._metrics["train"][name].append(value)
            if (
                self.args.target_kl is not None
                and found.get("policy/approxkl_avg", 0.0) > self.args.target_kl
            ):
                self.resting = True
            self._sums = None
