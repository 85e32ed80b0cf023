"""The documented import name of the fake as an ASGI application; the code is in `hobbyhorse.server.app`."""

from hobbyhorse.server.app import Fake as Fake
from hobbyhorse.server.app import Options as Options
