"""The `generation:` section of a config, and the config of `alignkit generate`."""

from typing import Literal

from pydantic import Field

from alignment.backend.config import ModelSection, Section


class GenerationSection(Section):
    """How completions are sampled; the defaults warp nothing: samples are of the model's distribution."""

    max_new_tokens: int = Field(default=128, ge=1)
    """The most tokens of a completion; one that is cut off here is not `finished`."""
    temperature: float = Field(default=1.0, ge=0.0)
    """Divides the logits; 0 takes the likeliest token every time."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Sample from the fewest tokens whose probabilities reach this sum; 1 keeps all."""
    top_k: int = Field(default=0, ge=0)
    """Sample from so many likeliest tokens; 0 keeps all."""
    engine: Literal["transformers", "graph", "vllm"] = "transformers"
    """graph: each step one captured CUDA graph; vllm: vLLM, which is to be installed. Both are for GPUs; what
    they cannot do is done by transformers, which is said."""
    token_budget: int | None = Field(default=None, ge=1)
    """Tokens of one batch, padding and room for the completion included. null: 16,384 with transformers,
    131,072 with graph, no limit with vllm, which makes its batches itself."""
    seed: int = 0
    """Seed of the samples; the process's own random state is left alone."""


class GenerateConfig(Section):
    """The config of `alignkit generate`: whose completions for which prompts, and where to."""

    stage: Literal["generate"] = "generate"
    model: ModelSection
    prompts: list[str] = Field(min_length=1)
    """Files, folders or globs of records, whose prompts are answered."""
    max_rows: int | None = Field(default=None, ge=1)
    """Answer only the first so many."""
    n: int = Field(default=1, ge=1)
    """Completions for each prompt."""
    generation: GenerationSection = Field(default_factory=GenerationSection)
    out: str
    """The file of records to write (.jsonl, .jsonl.gz, .jsonl.zst or .parquet)."""
    name: str | None = None
    """The model's name in the source of the completions; model.path unless given."""
    overwrite: bool = False
    """Replace `out` if it exists."""
