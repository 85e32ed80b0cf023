"""Faults of the connection: late, silent, slow, broken off or reset."""

from __future__ import annotations

from hobbyhorse.scenarios.effects import Close, Delay, Drip, Hold, IdleClose, Reset, Truncate
from hobbyhorse.scenarios.fault import (
    CUTS,
    DRIPS,
    GRAVE,
    HOLDS,
    LEAVES,
    LOSES,
    MEDIA,
    OPERATION,
    PASSES,
    SPOILS,
    STALLS,
    Fault,
)
from hobbyhorse.scenarios.options import ACCEPTED, KEEP, PIECES, SECONDS

# First: every client and every operation has a connection.
RANK = 10
# Longer than a careless client waits between bytes, short enough for a test in real time.
LATE_SECONDS, DRIP_SECONDS = 5.0, 5.0
# As long as some servers keep an idle connection, and as clients wait between polls: their next request meets its end.
IDLE_SECONDS = 5.0
# An hour: beyond the read timeout of any client, so that the client is always the one to give up.
HOLD_SECONDS = 3_600.0

LATENCY = Fault(
    name="latency",
    stands=(OPERATION, MEDIA),
    says="responds after a delay",
    effect=lambda decided, options: Delay(options["seconds"]),
    options=(SECONDS.by_default(LATE_SECONDS),),
    rank=RANK,
    uses=frozenset({PASSES}),
)
TIMEOUT = Fault(
    name="timeout",
    stands=(OPERATION, MEDIA),
    says="never responds; closes the connection after a delay",
    effect=lambda decided, options: Hold(options["seconds"]),
    options=(ACCEPTED, SECONDS.by_default(HOLD_SECONDS)),
    rank=RANK,
    replaces=True,
    uses=frozenset({GRAVE, HOLDS}),
)
RESET_PEER = Fault(
    name="reset_peer",
    stands=(OPERATION, MEDIA),
    says="resets the connection (a TCP RST) without a byte",
    effect=lambda decided, options: Reset(),
    options=(ACCEPTED,),
    rank=RANK,
    replaces=True,
    uses=frozenset({GRAVE}),
)
EMPTY = Fault(
    name="empty",
    stands=(OPERATION, MEDIA),
    says="closes the connection without a byte",
    effect=lambda decided, options: Close(),
    options=(ACCEPTED,),
    rank=RANK,
    replaces=True,
)
# Not on files: a request for a file has no effect that could be accepted.
ACCEPT_THEN_DROP = Fault(
    name="accept_then_drop",
    stands=(OPERATION,),
    says="reads the whole request, performs it, closes the connection without a byte",
    effect=lambda decided, options: Close(),
    rank=RANK,
    uses=frozenset({LOSES}),
)
TRUNCATE = Fault(
    name="truncate",
    stands=(OPERATION, MEDIA),
    says="closes the connection within the body that `Content-Length` declared",
    effect=lambda decided, options: Truncate(options["keep"]),
    options=(KEEP,),
    rank=RANK,
    uses=frozenset({CUTS, SPOILS}),
)
SLOW_BODY = Fault(
    name="slow_body",
    stands=(OPERATION, MEDIA),
    says="sends the body in pieces over a period",
    effect=lambda decided, options: Drip(options["seconds"], options["pieces"]),
    options=(SECONDS.by_default(DRIP_SECONDS), PIECES),
    rank=RANK,
    uses=frozenset({STALLS, DRIPS}),
)
IDLE_CLOSE = Fault(
    name="idle_close",
    stands=(OPERATION, MEDIA),
    says="closes the connection when it has been idle for a time after the response",
    effect=lambda decided, options: IdleClose(options["seconds"]),
    options=(SECONDS.by_default(IDLE_SECONDS),),
    rank=RANK,
    uses=frozenset({LEAVES}),
)
