"""Source: Standard Webhooks, section Event types: the type of a callback is not read."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import Receiver, RunflowTrusting, listener

PROVIDER = "runflow"
FOUND_BY = "The callback of a failed run counts as success, and its reason is lost."


class Hopeful(Receiver):
    def keep(self, job: Any, message: dict[str, Any]) -> None:
        super().keep(job, {**message, "status": "succeeded"})


class Broken(RunflowTrusting):
    receiver_class = Hopeful
    empty_tries = 1


broken, clean = listener(Broken), listener(RunflowTrusting)
