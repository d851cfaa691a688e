"""The `generation:` section of a config."""

from pydantic import Field

from alignment.backend.config import Section


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
    token_budget: int = Field(default=16_384, ge=1)
    """Tokens of one batch, padding and room for the completion included."""
    seed: int = 0
    """Seed of the samples; the process's own random state is left alone."""
