"""Source: RFC 3339 section 5.6: a moment without an offset is subtracted from one with an offset."""

import contextlib
import sys
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, State, client
from base_httpx import RunflowHttpx

PROVIDER = "runflow"
FOUND_BY = "A created_at without an offset crashes the client with a TypeError, and the paid job is lost."


class Clean(RunflowHttpx):
    """It measures how old its job is by the provider's moments."""

    age = 0.0

    def since(self, text: str) -> float:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return (datetime.now(timezone.utc) - moment).total_seconds()

    def state(self, job: str, reply: Reply) -> State:
        data = self.json(reply)
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            self.age = self.since(data["created_at"])
        return super().state(job, reply)


class Broken(Clean):
    def since(self, text: str) -> float:
        return (datetime.now(timezone.utc) - datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds()

    def state(self, job: str, reply: Reply) -> State:
        data = self.json(reply)
        if isinstance(data, dict) and data.get("created_at"):
            self.age = self.since(data["created_at"])
        return super().state(job, reply)


broken, clean = client(Broken), client(Clean)
