"""Started by test_ppo_two_processes.py, alone and on two ranks: the same rollouts, whole and with LoRA.

Arguments: folder of the model, rows a rank, folder for the results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignment.ppo.config import PPOConfig
from alignment.ppo.trainer import PPOTrainer

LENGTHS = [1, 5, 2, 8, 3, 3, 7, 4]


def main(model: str, rows: int, out: Path, kind: str) -> None:
    options: dict[str, Any] = {"bf16": False, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = PPOConfig(
        output_dir=str(out / "trainer"),
        per_device_train_batch_size=rows,
        num_iterations=1,
        max_steps=4,
        shuffle_dataset=False,
        critic_warmup_steps=1,
        optim="sgd",
        learning_rate=0.5,
        critic_learning_rate=0.5,
        kl_target=0.01,
        kl_horizon=100,
        scale_rewards=True,
        save_strategy="no",
        lr_scheduler_type="constant",
        **options,
    )
    trainer = PPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward=lambda prompts, texts, finished: [float(p[0]["content"][-1]) for p in prompts],
        args=args,
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": f"say {i}"}]} for i in range(8)]
        ),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        if kind == "lora"
        else None,
        samples_path=out / f"{kind}.jsonl",
    )

    def generate(prompts: list[Any]) -> tuple[list[list[int]], list[list[int]], list[str]]:
        """The completion depends on the prompt alone, wherever it is completed."""
        prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
        numbers = [int(prompt[0]["content"][-1]) for prompt in prompts]
        ids = [[20 + i] * LENGTHS[i] if i % 2 else [20 + i] * LENGTHS[i] + [2] for i in numbers]
        return prompt_ids, ids, trainer.processing_class.batch_decode(ids)

    trainer._generate = generate
    trainer.train()
    rank = trainer.accelerator.process_index
    tensors = {name: p.detach().clone() for name, p in trainer.policy.named_parameters()}
    save_file(tensors, out / f"{kind}_{rank}.safetensors")
    names = ("score", "reward", "kl", "kl_coef", "loss", "val/ratio", "value/explained_variance", "eos_rate")
    kept = [{name: entry[name] for name in names if name in entry} for entry in trainer.state.log_history]
    (out / f"{kind}_{rank}.json").write_text(json.dumps(kept))


if __name__ == "__main__":
    for kind in ("whole", "lora"):
        main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), kind)
