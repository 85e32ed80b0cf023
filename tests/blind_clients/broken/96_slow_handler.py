"""Source: zendesk/sunshine-conversations-ruby#7: a handler works before it answers, so callbacks are repeated."""

import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import Receiver, RunflowTrusting, listener

PROVIDER = "runflow"
FOUND_BY = "The receiver answers a callback only after half a minute of work, and the provider delivers it again."


class Slow(Receiver):
    def answer(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        if status == 200:
            time.sleep(30.0)  # it archives the video first
        super().answer(handler, status)


class Broken(RunflowTrusting):
    receiver_class = Slow


broken, clean = listener(Broken), listener(RunflowTrusting)
