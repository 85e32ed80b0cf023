"""Source: stephengpope/no-code-architects-toolkit#215: the job id of a callback is not that of the response."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import Receiver, RunflowTrusting, listener

PROVIDER = "runflow"
FOUND_BY = "A genuine callback about another job decides the outcome, so the client returns another job's video."


class Anyone(Receiver):
    def keep(self, job: Any, message: dict[str, Any]) -> None:
        super().keep("", message)

    def hear(self, job: str, seconds: float) -> dict[str, Any] | None:
        message = super().hear("", seconds)
        return message and {**message, "run_id": job}


class Broken(RunflowTrusting):
    receiver_class = Anyone


broken, clean = listener(Broken), listener(RunflowTrusting)
