"""The documented import name of the error that a dropped in-process request raises."""

from hobbyhorse.server.socket_faults import Dropped as Dropped
