"""Source: permitio/opal#287: an exception ends a background task for good."""

import contextlib
import json
import sys
from http.server import HTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import HiapiTrusting, Receiver, listener

PROVIDER = "hiapi"
FOUND_BY = "After one callback without a taskId, the receiver is dead and answers no further callback."


class Fragile(Receiver):
    server_class = HTTPServer

    def make_server(self, address: tuple[str, int]) -> HTTPServer:
        server = super().make_server(address)

        def stop(*_: Any) -> None:
            raise RuntimeError("the handler failed")

        server.handle_error = stop  # type: ignore[method-assign, assignment]
        return server

    def serve(self) -> None:
        with contextlib.suppress(RuntimeError):
            super().serve()
        self.server.socket.close()

    def receive(self, headers: Any, body: bytes) -> int:
        json.loads(body)["taskId"]
        return super().receive(headers, body)


class Broken(HiapiTrusting):
    receiver_class = Fragile


broken, clean = listener(Broken), listener(HiapiTrusting)
