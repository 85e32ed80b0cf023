"""Source: modelscope/ms-swift#10211: a media URL that names a private address is fetched."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_core import client
from base_urllib import VtrixUrllib

PROVIDER = "vtrix"
FOUND_BY = "A video URL that leads to a private host, or to a file, is opened."


class Broken(VtrixUrllib):
    def check_url(self, url: str) -> None: ...


broken, clean = client(Broken), client(VtrixUrllib)
