"""Source: lidge-jun/opencodex#582: the URL is looked for in fewer places than the provider may use."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_core import State, client
from base_urllib import RuncomfyUrllib

PROVIDER = "runcomfy"
FOUND_BY = (
    "A result with output.videos instead of output.video counts as one without a video, and the paid job is lost."
)


class Broken(RuncomfyUrllib):
    def read_state(self, job: str, data: Any) -> State:
        state = super().read_state(job, data)
        video = (data.get("output") or {}).get("video")
        return State(state.kind, [url for url in state.urls if url == video], state.reason)


broken, clean = client(Broken), client(RuncomfyUrllib)
