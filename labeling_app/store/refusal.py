"""A request that the data does not allow."""

from __future__ import annotations


class Refusal(Exception):
    """Told to the person in one sentence. `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
