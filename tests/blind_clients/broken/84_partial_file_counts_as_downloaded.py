"""Source: Evolution0/bandcamp-dl#71: a file that exists is skipped, although its download was interrupted."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import NetworkError, Reply, client
from base_urllib import RunflowUrllib

PROVIDER = "runflow"
FOUND_BY = "After an interrupted download, the next attempt takes the partial file for the whole video."


class Clean(RunflowUrllib):
    """It downloads to a file, under another name until the file is whole."""

    whole_name = partial_name = ""

    def open(self) -> None:
        super().open()
        folder = tempfile.mkdtemp(prefix="video-")
        self.whole_name, self.partial_name = folder + "/video.mp4", folder + "/video.part"

    def read(self, response: Any, until: float) -> bytes:
        if "json" in response.headers.get("Content-Type", ""):
            return super().read(response, until)
        with Path(self.partial_name).open("wb") as file:
            size, got = self.size(response), 0
            while chunk := response.read1(65536) if size is None or got < size else b"":
                got += file.write(chunk)
                if time.monotonic() > until:
                    raise NetworkError("the response takes too long")
        if size is not None and got < size:
            raise NetworkError(f"{got} of {size} bytes")
        Path(self.partial_name).replace(self.whole_name)
        return Path(self.whole_name).read_bytes()


class Broken(Clean):
    def open(self) -> None:
        super().open()
        self.partial_name = self.whole_name

    def fetch(self, url: str) -> Reply:
        if Path(self.whole_name).exists():
            return Reply(200, {}, Path(self.whole_name).read_bytes())
        return super().fetch(url)

    def whole(self, reply: Reply) -> bool:
        return reply.data[4:8] == b"ftyp"


broken, clean = client(Broken), client(Clean)
