"""The error of work that a worker process did not do. Imports nothing, so that requests can know it."""

from __future__ import annotations


class WorkerError(Exception):
    """A piece of work was not done. `code` is `time`, `memory`, `ended`, or `failed`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
