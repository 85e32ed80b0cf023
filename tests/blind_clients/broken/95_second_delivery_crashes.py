"""Source: saleor/apps#339: callbacks are delivered repeatedly, and the receiver must recognize them."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import HiapiTrusting, Receiver, listener

PROVIDER = "hiapi"
FOUND_BY = "The second delivery of a callback raises a KeyError in the handler and gets no response."


class Once(Receiver):
    done: dict[str, bool]

    def __init__(self, callback: Any, provider: str) -> None:
        self.done = {}
        super().__init__(callback, provider)

    def keep(self, job: Any, message: dict[str, Any]) -> None:
        if self.done.setdefault(str(job), False):
            raise KeyError(job)
        self.done[str(job)] = True
        super().keep(job, message)


class Broken(HiapiTrusting):
    receiver_class = Once


broken, clean = listener(Broken), listener(HiapiTrusting)
