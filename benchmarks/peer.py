"""TRL 1.12's PPOTrainer, the last that TRL shipped, as a peer."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import side


def use_trl112(folder: Path, work: Path) -> None:
    """Let `import trl` be 1.12, from its wheel or from where that is unpacked."""
    if folder.suffix == ".whl":
        zipfile.ZipFile(folder).extractall(work / "trl")
        folder = work / "trl"
    sys.path.insert(0, str(folder))
    import trl

    if not trl.__version__.startswith("1.12"):
        raise SystemExit(f"{folder} holds trl {trl.__version__}, not 1.12")


def ppo_trainer(
    model: str, reward: str, prompts: list[str], dtype: str, options: dict[str, Any], callbacks: list[Any]
) -> Any:
    """A PPOTrainer of TRL 1.12; options: of its PPOConfig. The value model starts as the reward model."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    from alignment.backend.models import load_tokenizer

    tokenizer = load_tokenizer(model)  # whose pad is not EOS, as TRL's documentation asks for
    tokenizer.padding_side = "left"
    kind = {"dtype": getattr(torch, dtype)}
    policy, reference = (AutoModelForCausalLM.from_pretrained(model, **kind) for _ in range(2))
    scorer, value = (AutoModelForSequenceClassification.from_pretrained(reward, **kind) for _ in range(2))
    cpu = not torch.cuda.is_available()
    config = PPOConfig(
        **{
            "bf16": not cpu,
            "use_cpu": cpu,
            "num_mini_batches": 1,
            "temperature": 1.0,
            "stop_token": "eos",
            "num_sample_generations": 0,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            **options,
        }
    )
    rows = [{"input_ids": side.rendered(tokenizer, prompt)} for prompt in prompts]
    dataset = Dataset.from_list(rows)
    return PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=scorer,
        value_model=value,
        train_dataset=dataset,
        eval_dataset=dataset.select(range(2)),
        callbacks=callbacks,
    )


def pay_by(trainer: Any, scorer: Any, prompts: list[str]) -> None:
    """Let this trainer's reward model be `scorer`, which reads texts, as it is for our own runs.

    TRL reads the reward at the EOS; a reward model whose template goes on after it has learned to be read
    there, and the two numbers differ.
    """
    import torch
    from trl.experimental.ppo import ppo_trainer as module

    tokenizer = trainer.processing_class
    by_ids = {tuple(side.rendered(tokenizer, prompt)): prompt for prompt in prompts}
    own, pad, eos = module.get_reward, tokenizer.pad_token_id, tokenizer.eos_token_id

    def get_reward(model: Any, rows: Any, pad_id: int, start: int) -> Any:
        if model is not trainer.reward_model:
            return own(model, rows, pad_id, start)
        asked, texts, finished = [], [], []
        for row in rows.tolist():
            tail = [token for token in row[start:] if token != pad]
            asked.append(
                [{"role": "user", "content": by_ids[tuple(token for token in row[:start] if token != pad)]}]
            )
            texts.append(tokenizer.decode(tail, skip_special_tokens=True))
            finished.append(eos in tail)
        return None, torch.tensor(scorer.score(asked, texts, finished), device=rows.device), None

    module.get_reward = get_reward
