"""Source: hardbyte/awa#17: a callback that arrives before the id is registered finds no job."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import HiapiTrusting, Receiver, listener

PROVIDER = "hiapi"
FOUND_BY = "A callback that overtakes the response to the submission is refused with 404."


class Early(Receiver):
    def receive(self, headers: Any, body: bytes) -> int:
        status = super().receive(headers, body)
        if status == 200 and json.loads(body).get("taskId") not in self.known:
            return 404
        return status


class Broken(HiapiTrusting):
    receiver_class = Early


broken, clean = listener(Broken), listener(HiapiTrusting)
