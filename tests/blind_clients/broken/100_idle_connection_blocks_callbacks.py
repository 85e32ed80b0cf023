"""Source: jordan-gibbs/hyperresearch#87: a single-threaded HTTPServer waits for a silent connection forever."""

import sys
import threading
from http.server import HTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from base_callback import HiapiTrusting, Receiver, listener

PROVIDER = "hiapi"
FOUND_BY = "While somebody holds an idle connection to the receiver, genuine callbacks get no response."


class Single(Receiver):
    server_class = HTTPServer
    quiet_after = None  # type: ignore[assignment]

    def close(self) -> None:
        stop = threading.Thread(target=self.server.shutdown, daemon=True)
        stop.start()
        stop.join(1.0)
        self.server.server_close()


class Broken(HiapiTrusting):
    receiver_class = Single


broken, clean = listener(Broken), listener(HiapiTrusting)
