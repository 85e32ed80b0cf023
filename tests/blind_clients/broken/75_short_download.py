"""Source: NVIDIA/IsaacTeleop#1111: HTTPResponse.read(amt) returns less than announced, without an error."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import Reply, client
from base_urllib import HiapiUrllib

PROVIDER = "hiapi"
FOUND_BY = "A truncated download is saved as the video."


class Broken(HiapiUrllib):
    def size(self, response: Any) -> int | None:
        return None

    def whole(self, reply: Reply) -> bool:
        return reply.data[4:8] == b"ftyp"


broken, clean = client(Broken), client(HiapiUrllib)
