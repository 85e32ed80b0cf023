"""Source: gabrielkoerich/orch#134: the signature is computed over re-serialized JSON instead of the raw body."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import Receiver, RunflowTrusting, listener

PROVIDER = "runflow"
FOUND_BY = "A genuine callback whose JSON has other spaces, escapes or numbers is refused."


class Parsing(Receiver):
    def expected(self, stamp: str, body: bytes) -> str:
        try:
            body = json.dumps(json.loads(body), separators=(",", ":")).encode()
        except ValueError:
            return ""
        return super().expected(stamp, body)


class Broken(RunflowTrusting):
    receiver_class = Parsing


broken, clean = listener(Broken), listener(RunflowTrusting)
