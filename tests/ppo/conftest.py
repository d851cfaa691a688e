"""A PPOTrainer on the toy model, ready to train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# (prompt ids, completion ids) of a rollout that a test prescribes; EOS of the toy model is 2
Ids = Sequence[list[int]]
EOS = 2


def count_a(prompts: list[Any], texts: list[str], finished: list[bool]) -> list[float]:
    """The reward of the learning tests: how often the letter a comes up."""
    return [text.count("a") / 4 for text in texts]


@pytest.fixture
def make_trainer(toy_model: str, tmp_path: Path) -> Callable[..., Any]:
    """make_trainer(adapter, reward, prompts, change, samples, held_out, critic, **options of PPOConfig).

    adapter: "new" for a peft_config, "given" for a PeftModel whose adapter does something. change: a function
    applied to the policy before it is handed over.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    from alignment.ppo.config import PPOConfig
    from alignment.ppo.trainer import PPOTrainer

    def make(
        adapter: str | None = None,
        reward: Callable[..., Any] = count_a,
        prompts: int | list[Any] = 32,
        change: Callable[[Any], Any] | None = None,
        samples: Path | None = None,
        held_out: int = 0,
        critic: Any = None,
        **options: Any,
    ) -> PPOTrainer:
        set_seed(0)
        policy: Any = AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32)
        lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        if adapter == "given":
            policy = get_peft_model(policy, lora)
            for name, parameter in policy.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.1)
        if change is not None:
            change(policy)
        texts = [f"say {i}" for i in range(prompts)] if isinstance(prompts, int) else prompts
        rows = [
            {"prompt": [{"role": "user", "content": t}] if isinstance(t, str) else t["plain"]} for t in texts
        ]
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "trainer"),
            "bf16": False,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "per_device_train_batch_size": 8,
            "steps_per_generation": 2,
            "max_completion_length": 8,
            "critic_warmup_steps": 0,
            "max_steps": 4,
            "learning_rate": 1e-3,
        }
        return PPOTrainer(
            model=policy,
            reward=reward,
            args=PPOConfig(**{**defaults, **options}),
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows[:held_out]) if held_out else None,
            processing_class=AutoTokenizer.from_pretrained(toy_model),
            peft_config=lora if adapter == "new" else None,
            samples_path=samples,
            critic=critic,
        )

    return make


@pytest.fixture
def prescribe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """prescribe(trainer, ids): rollouts are these completions, one a prompt in the order of the batch."""

    def set_rollouts(trainer: Any, completions: Ids) -> None:
        def generate(prompts: list[Any]) -> tuple[list[list[int]], list[list[int]], list[str]]:
            prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
            chosen = [list(completions[i % len(completions)]) for i in range(len(prompts))]
            texts = trainer.processing_class.batch_decode(chosen, skip_special_tokens=True)
            return prompt_ids, chosen, texts

        monkeypatch.setattr(trainer, "_generate", generate)

    return set_rollouts


def history(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.fixture
def logged() -> Callable[[Any, str], list[float]]:
    """logged(trainer, metric) -> its values in the order they were logged."""
    return history


@pytest.fixture(scope="session")
def toy_adapter(toy_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an adapter over the toy model that does something, as an SFT stage leaves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("toy") / "adapter"
    base = AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32)
    base.name_or_path = toy_model
    generator = torch.Generator().manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.1, generator=generator)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(toy_model).save_pretrained(folder)
    return str(folder)
