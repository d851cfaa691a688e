"""A policy's weights on their way to vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alignment.backend.online_trainer import same_base
from alignment.ppo.critic import critic_apart


@contextmanager
def safe_sync(policy: Any) -> Iterator[None]:
    """Within it, TRL may send the policy's weights to vLLM: all parameters, adapters merged in place.

    The critic is out of the way, and the base's weights, which it shares, are afterwards what they were.
    """
    with critic_apart(policy), same_base(policy):
        yield
