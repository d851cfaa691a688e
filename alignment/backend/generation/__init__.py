"""Completions for prompts: one interface, `generate`, over the engines in this folder."""

from alignment.backend.generation.sampling import Generated, generate
from alignment.backend.generation.settings import GenerationSection

__all__ = ["Generated", "GenerationSection", "generate"]
