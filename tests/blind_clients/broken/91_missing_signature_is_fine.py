"""Source: own-pay/OwnPay#296: the check of a callback is skipped if its header is missing."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import Receiver, RunflowTrusting, listener

PROVIDER = "runflow"
FOUND_BY = "A forged callback without a signature decides the outcome of the job."


class Forgiving(Receiver):
    def genuine(self, headers: Any, body: bytes) -> bool:
        return not headers.get("Runflow-Signature") or super().genuine(headers, body)


class Broken(RunflowTrusting):
    receiver_class = Forgiving


broken, clean = listener(Broken), listener(RunflowTrusting)
