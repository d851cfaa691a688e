"""How much GPU memory a training step will take, worked out before any weight is loaded.

The terms are those of a Llama-like decoder under TRL 1.16's trainers (fused LM head, sdpa attention); the
widths come from the model's configuration, put together on the meta device. benchmarks/memory.py prints the
estimate beside the measured peak. Sharded training (FSDP, DeepSpeed) is not estimated.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from alignment.backend.config import ModelSection, StageConfig
from alignment.backend.models import (
    is_adapter,
    is_policy_adapter,
    peft_config,
    plain_base,
    read_config,
    resolve_model_path,
    weights_dtype,
)
from alignment.backend.progress import say
from alignment.errors import UserError

# Sequences in one forward pass for each row of a batch.
SEQUENCES = {"sft": 1, "reward": 2, "dpo": 2, "kto": 1, "ppo": 1, "rloo": 1, "grpo": 1}
ONLINE = ("ppo", "rloo", "grpo")  # what samples has a scorer beside it
# Bytes of optimiser state for a float32 weight, where it is not Adam's two float32 averages.
OPTIMIZER_BYTES = {"adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 0, "sgd": 0}
# Bytes of a frozen weight held quantised, its scales included.
QUANTIZED_BYTES = {"4bit": 0.6, "8bit": 1.1}
# Beside the tensors: CUDA context, cuBLAS workspaces, fragmentation.
RESERVE = 1_000_000_000
MARGIN = 1.15  # by which an estimate may be too low
CHECKPOINTING = {"activation_checkpointing", "gradient_checkpointing"}  # the option and its older name
# TRL's fused LM head holds one tile of logits at a time, so many tokens by so many entries of the vocabulary.
TILE_TOKENS, TILE_ENTRIES = 4096, 32_768


@dataclass(frozen=True)
class Sizes:
    """A model in numbers: parameters, those that are trained, and the widths that its activations have."""

    parameters: int
    trained: int
    layers: int
    hidden: int
    query: int  # heads x head size
    inner: int
    vocab: int
    cached: int  # key-value heads x head size
    adapted: int  # input widths of the linear layers with an adapter, summed over one decoder layer
    tied: bool  # the embedding is the LM head


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the peak of a training step."""

    weights: int
    optimizer: int
    step: int  # activations and gradients, at the moment when the two together are largest

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.step

    def __str__(self) -> str:
        parts = {"weights": self.weights, "optimizer": self.optimizer, "activations and gradients": self.step}
        return ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())


def estimate_memory(
    sizes: Sizes,
    stage: str,
    *,
    rows: int,
    length: int,
    dtype: str = "float32",
    mixed: bool = True,
    checkpointing: bool = False,
    accumulation: int = 1,
    optimizer: str = "adamw_torch_fused",
    quantize: str | None = None,
    texts: int | None = None,
    cached_rows: int = 0,
) -> Memory:
    """The peak of a training step of `rows` rows, each of `texts` texts (see SEQUENCES) of `length` tokens.

    dtype: of the model's weights (adapters are float32); mixed: bfloat16 autocast; accumulation: batches a
    step. Stages that sample count a scorer (in bfloat16) of the actor's size, "ppo" a critic too.
    cached_rows: completions that the graph engine samples at once, whose cache it keeps, as it keeps a copy
    of float32 weights that are trained under autocast.
    """
    whole = sizes.trained == sizes.parameters
    width = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
    held = QUANTIZED_BYTES[quantize] if quantize else width
    embedding = sizes.vocab * sizes.hidden
    models = 2 if stage == "ppo" else 1  # an actor and a critic, which share weights that are frozen
    references = int(whole and stage in ("dpo", "kto", *ONLINE))  # with an adapter, the base is the reference
    weights = int(held * sizes.parameters * ((models if whole else 1) + references))
    weights += 2 * sizes.parameters if stage in ONLINE else 0  # the scorer
    if cached_rows:
        weights += 2 * sizes.parameters if mixed and whole and width == 4 else 0
        weights += cached_rows * length * 2 * sizes.layers * sizes.cached * (2 if mixed else width)
    own = width if whole else 4  # bytes of a trained weight
    weights += 0 if whole else 4 * sizes.trained * models
    gradients = own * sizes.trained * models
    state = OPTIMIZER_BYTES.get(optimizer, 8) * own // 4 * sizes.trained * models

    tokens = rows * length * (texts or SEQUENCES[stage])
    layer = tokens * _layer_bytes(sizes, whole, width, mixed)
    stream = 4 if width == 4 else 2  # bytes of the residual stream's numbers
    # autocast's bfloat16 copies of float32 weights live as long as the graph needs them
    copies = 2 * (sizes.parameters - embedding) if mixed and whole and width == 4 else 0
    head, head_gradient = 0, 0
    if stage != "reward":
        head = min(tokens, TILE_TOKENS) * min(sizes.vocab, TILE_ENTRIES) * 2
        head_gradient = own * embedding if whole else 0
    if checkpointing:  # every layer's input, and one layer computed anew with the gradients inside it
        kept = tokens * sizes.layers * sizes.hidden * stream + max(2 * layer, head)
    else:
        kept = sizes.layers * layer + head
    start = models * (kept + copies) + head_gradient  # as the backward pass begins
    if accumulation > 1:  # the gradients of earlier micro-batches are there from the start
        return Memory(weights, state, gradients + start)
    # as it ends: all gradients, the embedding's twice (thrice if the head has one too), one layer's tensors
    again = own * embedding * (1 + (sizes.tied and stage != "reward")) if whole else 0
    end = gradients + again + models * layer // 2
    return Memory(weights, state, max(start, end))


def _layer_bytes(sizes: Sizes, whole: bool, width: int, mixed: bool) -> int:
    """Bytes that one decoder layer keeps for the backward pass, a token.

    Two norms keep their input in float32; a trained norm also its output, and a trained linear layer its
    input (under autocast a bfloat16 copy each: five of the hidden width); attention keeps q, k, v (repeated
    to all heads) and its output; the gated MLP its gate, up, product and activation.
    """
    h, q, i = sizes.hidden, sizes.query, sizes.inner
    if not whole:
        return 8 * h + 8 * q + 6 * i + 2 * sizes.adapted
    if width == 4 and mixed:
        return 26 * h + 8 * q + 8 * i
    return 24 * h + 16 * q + 16 * i if width == 4 else 16 * h + 8 * q + 8 * i


def model_sizes(section: ModelSection, scalar: bool = False) -> Sizes:
    """The sizes of a section's model, from its configuration alone; `scalar`: with a score head."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    folder = resolve_model_path(section.path)
    config = read_config(plain_base(folder))
    if scalar:
        config.num_labels = 1
    auto = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    text = config.get_text_config()
    with torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=False)
    parameters = sum(p.numel() for p in model.parameters())
    trained, adapted = parameters, 0
    lora = peft_config(section, "SEQ_CLS" if scalar else "CAUSAL_LM")
    if lora is None and is_adapter(folder) and not (scalar and is_policy_adapter(folder)):
        from peft import PeftConfig

        lora = PeftConfig.from_pretrained(folder)
    if lora is not None:
        from peft import get_peft_model

        lora.base_model_name_or_path = None
        with torch.device("meta"):
            tuned = get_peft_model(model, lora)
        trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
        inputs = [m.in_features for n, m in tuned.named_modules() if n.endswith("lora_A.default")]
        adapted = sum(inputs) // text.num_hidden_layers
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Sizes(
        parameters=parameters,
        trained=trained,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        query=head * text.num_attention_heads,
        cached=head * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads),
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocab=text.vocab_size,
        adapted=adapted,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
    )


def check_memory(
    config: StageConfig, args: Any, stage: str, length: int, texts: int | None = None
) -> Memory | None:
    """Estimate a training step of `stage` and refuse what the GPU has no room for, before anything is loaded.

    args: the trainer's config object, whose activation checkpointing is switched off here where the config
    does not ask for it and there is room; length: tokens of the longest text that will be trained on; texts:
    of a row, where SEQUENCES does not say. Says the estimate; None without a GPU and for sharded training.
    Raises UserError naming what to change.
    """
    free = free_gpu_memory()
    if free is None or os.environ.get("ACCELERATE_USE_FSDP") or os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        return None
    section = config.model
    sizes = model_sizes(section, scalar=stage == "reward")

    def estimate(checkpointing: bool) -> Memory:
        return estimate_memory(
            sizes,
            stage,
            rows=args.per_device_train_batch_size,
            length=length,
            dtype=weights_dtype(section, whole=sizes.trained == sizes.parameters),
            mixed=bool(args.bf16 or args.fp16),
            checkpointing=checkpointing,
            accumulation=args.gradient_accumulation_steps,
            optimizer=getattr(args.optim, "value", args.optim),
            quantize=section.quantize,
            texts=texts,
            cached_rows=_cached_rows(args),
        )

    memory = estimate(bool(args.activation_checkpointing))
    if args.activation_checkpointing and not CHECKPOINTING & set(config.trainer):
        without = estimate(False)
        if without.total * MARGIN + RESERVE <= free:
            args.activation_checkpointing = args.gradient_checkpointing = False
            memory = without
    say(f"GPU memory: about {memory.total / 1e9:.1f} GB of {free / 1e9:.1f} GB free ({memory})")
    if memory.total + RESERVE > free:
        raise UserError(
            f"this GPU is too small: {stage} needs about {(memory.total + RESERVE) / 1e9:.1f} GB ({memory}), "
            f"{free / 1e9:.1f} GB are free; lower trainer.per_device_train_batch_size or trainer.max_length, "
            "set trainer.activation_checkpointing, or train an adapter (model.lora)"
        )
    return memory


def _cached_rows(args: Any) -> int:
    """Completions that the graph engine of this process samples at once; 0 where another one does."""
    if getattr(args, "rollout_engine", None) != "graph":
        return 0
    from alignment.backend.generation.graph import LEAST

    rollout = args.per_device_train_batch_size * args.steps_per_generation
    return max(LEAST, min(rollout, getattr(args, "rollout_batch_size", None) or rollout))


def free_gpu_memory() -> int | None:
    """Free bytes of this process's GPU, None without one."""
    import torch

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
