"""Source: Sage-Bionetworks/synapsePythonClient#1126: an expired signed URL is retried, and not renewed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import RuncomfyUrllib

PROVIDER = "runcomfy"
FOUND_BY = "After a 403 of the expired URL, the client tries the same URL again, and the paid video is lost."


class Broken(RuncomfyUrllib):
    def refresh(self, job: str, urls: list[str], deadline: float) -> list[str]:
        return urls


broken, clean = client(Broken), client(RuncomfyUrllib)
