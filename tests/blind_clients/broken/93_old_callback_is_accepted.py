"""Source: Agent-Field/agentfield#717: the timestamp of a signed callback is not compared to the clock."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import HiapiTrusting, Receiver, listener

PROVIDER = "hiapi"
FOUND_BY = "A callback that was recorded and is replayed later is answered with 2xx."


class Timeless(Receiver):
    def fresh(self, stamp: str) -> bool:
        return True


class Broken(HiapiTrusting):
    receiver_class = Timeless


broken, clean = listener(Broken), listener(HiapiTrusting)
