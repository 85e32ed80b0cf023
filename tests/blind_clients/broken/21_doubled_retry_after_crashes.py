"""Source: dolfies/discord.py-self#853: two Retry-After lines, joined to '2814, 2', crash float()."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A doubled Retry-After header crashes the client with a ValueError, and the paid job is lost."


class Broken(VtrixHttpx):
    def retry_after(self, reply: Reply) -> float | None:
        value = reply.headers.get("retry-after", "")
        return float(value) if value[:1].isdigit() else super().retry_after(reply)


broken, clean = client(Broken), client(VtrixHttpx)
