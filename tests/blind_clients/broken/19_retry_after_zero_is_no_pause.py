"""Source: dlt-hub/dlt#4043: Retry-After: 0 is repeated without any pause."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import HiapiUrllib

PROVIDER = "hiapi"
FOUND_BY = "While the provider answers 429 or 503 with Retry-After: 0, the client sends requests back to back."


class Broken(HiapiUrllib):
    eager = 200  # so that a test of this client ends

    def pace(self, pause: float, hint: float | None) -> float:
        if hint == 0 and self.eager:
            self.eager -= 1
            return 0.0
        return super().pace(pause, hint)


broken, clean = client(Broken), client(HiapiUrllib)
