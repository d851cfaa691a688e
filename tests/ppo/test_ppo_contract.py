"""design/training.md 15: PPOTrainer overrides and calls private methods; one that changed is found here.

A row is a function, the hash of its code in the tested version (lines of comments and indentation aside), and
what of ours rests on it. When one fails after an upgrade: read the new source, mend ours, put its hash in.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect

import pytest
import transformers
import trl

RLOO, TRAINER = "trl.trainer.rloo_trainer:RLOOTrainer", "transformers.trainer:Trainer"
TRL_CODE = [
    (
        f"{RLOO}.__init__",
        "ce25e547051f",
        "PPOTrainer.__init__: beta is 0 while TRL's runs, so that it loads no reference; "
        "eos_token_ids, the `ref` copy of a given adapter, what is set before and after Trainer.__init__",
    ),
    (
        f"{RLOO}.get_train_dataloader",
        "a11ad96596ea",
        "a batch is a whole rollout: per_device_train_batch_size · steps_per_generation",
    ),
    (f"{RLOO}._get_train_sampler", "77de8ae531b5", "PromptSampler repeats what this one does"),
    (
        f"{RLOO}._prepare_inputs",
        "d8617f874014",
        "PPOTrainer._prepare_inputs replaces it: what reads _buffered_inputs?",
    ),
    (
        f"{RLOO}.training_step",
        "ba3a469495fc",
        "PPOTrainer.training_step and _position: _step counts micro-batches",
    ),
    (
        f"{RLOO}._generate_and_score_completions",
        "4137265fe77a",
        "PPOTrainer's replaces it: logging, unscorable completions",
    ),
    (
        f"{RLOO}._generate",
        "fec677e6a06c",
        "PPOTrainer._roll_out: what it returns, and that a completion has a token at least",
    ),
    (
        f"{RLOO}._generate_single_turn",
        "c8dd2404a36c",
        "PPOTrainer._roll_out: cut after the first EOS; weight sync; dtype casts",
    ),
    (f"{RLOO}._tokenize_prompts", "6470c30b688b", "PPOTrainer._roll_out: one BOS, the generation prompt"),
    (f"{RLOO}.compute_loss", "52e3edec8ef3", "PPOTrainer._compute_loss is called with the wrapped model"),
    (f"{RLOO}._compute_loss", "dc10ade37437", "PPOTrainer._compute_loss replaces it"),
    (f"{RLOO}.log", "d31c1ba47d8e", "metrics are averaged from _metrics['train']; _logs may stay empty"),
    (f"{RLOO}._save_checkpoint", "1aa7af20403a", "PPOTrainer._save_optimizer_and_scheduler is called within"),
    (
        "trl.trainer.rloo_config:RLOOConfig.__post_init__",
        "bef7b99367bc",
        "PPOConfig.__post_init__: num_generations < 2 is the "
        "last check; generation_batch_size and steps_per_generation are set by then",
    ),
    (
        "trl.trainer.utils:RepeatSampler.__iter__",
        "b1923d25ec65",
        "PromptSampler reseeds `generator` before it",
    ),
    ("trl.trainer.utils:use_adapter", "e42bd58839d3", "PPOTrainer._reference_logps"),
    (
        "trl.kernels.chunked_logprob:ChunkedLogProbFunction.forward",
        "6c4c730b086f",
        "critic.token_logps: arguments and outputs",
    ),
    (
        "trl.generation.vllm_generation:VLLMGeneration._iter_named_params",
        "519043b4d966",
        "sampling.safe_sync",
    ),
]
TRANSFORMERS_CODE = [
    (f"{TRAINER}.training_step", "20aeed27666b", "loss_is_scaled_for_ga, and where the loss is divided"),
    (
        f"{TRAINER}._run_epoch",
        "a0fca088bae6",
        "resume: batches skipped, random state restored, when step and epoch are counted",
    ),
    (f"{TRAINER}.create_optimizer", "70c8b7ca63b3", "PPOTrainer.create_optimizer adds the critic's group"),
    (f"{TRAINER}._clip_grad_norm", "106323b6e0d9", "PPOTrainer._clip_grad_norm"),
    (f"{TRAINER}._save", "1e61c2eab808", "PPOTrainer._save"),
    (f"{TRAINER}._save_checkpoint", "31e1bf1ed595", "what is written in which order"),
    (f"{TRAINER}._save_optimizer_and_scheduler", "ff259d58c261", "PPOTrainer's adds its own state"),
    (f"{TRAINER}._load_from_checkpoint", "dfb67e921139", "PPOTrainer's adds the critic"),
    (f"{TRAINER}._load_optimizer_and_scheduler", "ea4e61dc1957", "PPOTrainer's reads its own state"),
    (
        f"{TRAINER}._prepare_for_training",
        "b717b8036ed3",
        "the optimiser is made before, and the checkpoint loaded after wrapping",
    ),
    (
        "transformers.generation.utils:GenerationMixin._prepare_generation_config",
        "71e88b35f872",
        "sampling.own_distribution",
    ),
]


def code_hash(path: str) -> str:
    module, _, names = path.partition(":")
    found = importlib.import_module(module)
    for name in names.split("."):
        found = inspect.getattr_static(found, name)
    function = getattr(found, "__func__", found)
    lines = (line.strip() for line in inspect.getsource(inspect.unwrap(function)).splitlines())
    code = "\n".join(line for line in lines if line and not line.startswith("#"))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def check(library: str, version: str, path: str, known: str, recheck: str) -> None:
    now = code_hash(path)
    assert now == known, (
        f"{path} of {library} {version} is not the code that PPOTrainer was written for. Recheck: {recheck}. "
        f"Then put {now!r} for it in {__file__}."
    )


@pytest.mark.parametrize(("path", "known", "recheck"), TRL_CODE, ids=[row[0] for row in TRL_CODE])
def test_trl_is_as_ppo_knows_it(path: str, known: str, recheck: str) -> None:
    check("trl", trl.__version__, path, known, recheck)


@pytest.mark.skipif(
    not transformers.__version__.startswith("5.23."), reason="the hashes are those of transformers 5.23"
)
@pytest.mark.parametrize(
    ("path", "known", "recheck"), TRANSFORMERS_CODE, ids=[row[0] for row in TRANSFORMERS_CODE]
)
def test_transformers_is_as_ppo_knows_it(path: str, known: str, recheck: str) -> None:
    check("transformers", transformers.__version__, path, known, recheck)


def test_a_change_is_told_with_what_to_recheck() -> None:
    with pytest.raises(AssertionError, match=r"Recheck: the sampler\. Then put"):
        check(
            "trl", trl.__version__, "trl.trainer.utils:RepeatSampler.__len__", "000000000000", "the sampler"
        )
