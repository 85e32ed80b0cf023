"""Source: fabiocaccamo/python-fsutil#180: the file name of Content-Disposition may lead out of the folder."""

import sys
import tempfile
from email.message import Message
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_httpx import HiapiHttpx

PROVIDER = "hiapi"
FOUND_BY = "A Content-Disposition with ../ in its file name makes the client write outside of its folder."


class Clean(HiapiHttpx):
    """It saves the video under the name that the provider suggests, in a folder of its own."""

    suggested = ""

    def whole(self, reply: Reply) -> bool:
        header = Message()
        header["content-disposition"] = reply.headers.get("content-disposition", "")
        self.suggested = header.get_filename() or ""
        return super().whole(reply)

    def safe(self, name: str) -> str:
        name = "".join(letter for letter in Path(name.replace("\\", "/")).name if letter.isalnum() or letter in "._-")
        return name[-100:] if name.strip(".") else "video.mp4"

    def deliver(self, job: str, data: bytes, request: dict[str, Any]) -> Any:
        path = Path(tempfile.mkdtemp(prefix="video-"), "inside")
        path.mkdir()
        path /= self.safe(self.suggested or "video.mp4")
        path.write_bytes(data)
        return path


class Broken(Clean):
    def safe(self, name: str) -> str:
        return name


broken, clean = client(Broken), client(Clean)
