"""Source: basujindal/stable-diffusion#2: the prompt is the file's name, and a long one is too long."""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_requests import RuncomfyRequests

PROVIDER = "runcomfy"
FOUND_BY = "A long prompt, or one with a slash, crashes the client after the job was paid."


class Clean(RuncomfyRequests):
    """It saves the video in a file that is named after the job."""

    def name(self, job: str, request: dict[str, Any]) -> str:
        return "".join(letter for letter in job if letter.isalnum() or letter in "_-")[:80] + ".mp4"

    def deliver(self, job: str, data: bytes, request: dict[str, Any]) -> Any:
        path = Path(tempfile.mkdtemp(prefix="video-")) / self.name(job, request)
        path.write_bytes(data)
        return path


class Broken(Clean):
    def name(self, job: str, request: dict[str, Any]) -> str:
        return "_".join(str(request.get("prompt", job)).split()) + ".mp4"


broken, clean = client(Broken), client(Clean)
