"""Source: mollie/mollie-api-python#325: a submission whose response is lost is sent again, and paid twice."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import JobError, client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "After a read timeout or a reset during the submission, the client submits the same job a second time."


class Broken(VtrixHttpx):
    def unknown(self, message: str, error: Exception | None = None) -> Exception:
        return JobError(message) if error else super().unknown(message, error)


broken, clean = client(Broken), client(VtrixHttpx)
