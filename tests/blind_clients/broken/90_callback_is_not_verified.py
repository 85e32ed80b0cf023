"""Source: Standard Webhooks, section Verifying webhook authenticity: no signature is checked."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import HiapiTrusting, Receiver, listener

PROVIDER = "hiapi"
FOUND_BY = "A forged callback decides the outcome of the job, such as a failure or another video."


class Forgiving(Receiver):
    def genuine(self, headers: Any, body: bytes) -> bool:
        return True


class Broken(HiapiTrusting):
    receiver_class = Forgiving


broken, clean = listener(Broken), listener(HiapiTrusting)
