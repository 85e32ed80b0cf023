"""Source: C0untFloyd/roop-unleashed#405: every video is saved under the same name."""

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_httpx import VtrixHttpx

PROVIDER = "vtrix"
FOUND_BY = "A second run overwrites the video that the first run returned."


class Clean(VtrixHttpx):
    """It returns the path of a file of its own."""

    def deliver(self, job: str, data: bytes, request: dict[str, Any]) -> Any:
        path = Path(tempfile.mkdtemp(prefix="video-")) / self.name(job)
        path.write_bytes(data)
        return path

    def name(self, job: str) -> str:
        return "video.mp4"


class Broken(Clean):
    def deliver(self, job: str, data: bytes, request: dict[str, Any]) -> Any:
        path = Path(tempfile.gettempdir()) / "blind-vtrix-video.mp4"
        path.write_bytes(data)
        return path


broken, clean = client(Broken), client(Clean)
