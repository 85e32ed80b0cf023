"""The options of faults: names, bounds, meanings, and the values that the search tries.

A few values with different meanings (none, short, long, beyond every deadline) find more than many similar ones.
"""

from __future__ import annotations

from hobbyhorse.scenarios.fault import Option

NAME = {"type": "string", "minLength": 1, "maxLength": 60}
# Ten days: longer than any provider keeps a job.
SECONDS_BOUNDS = {"type": "number", "minimum": 0, "maximum": 864_000}
DAY = {"type": "integer", "minimum": 0, "maximum": 86_400}

ACCEPTED = Option(
    "accepted",
    "Whether the operation takes effect (a submission makes its job) although its response is faulty.",
    {"type": "boolean"},
    default=False,
)
SECONDS = Option(
    "seconds", "The duration, in seconds of the world's clock.", SECONDS_BOUNDS, tried=(0, 0.5, 5, 90, 4_000)
)
KEEP = Option(
    "keep",
    "The part of the body that is sent.",
    {"type": "number", "minimum": 0, "maximum": 0.99},
    tried=(0, 0.25, 0.5, 0.99),
    # Half of the body: cut inside it for every length, with bytes on both sides.
    default=0.5,
)
PIECES = Option(
    "pieces",
    "The number of pieces of the body.",
    {"type": "integer", "minimum": 1, "maximum": 1_000},
    tried=range(1, 6),
    # Enough pieces that a client reads several times, few enough that each still has bytes of a small JSON body.
    default=10,
)
STATUS = Option(
    "status",
    "The HTTP status.",
    {"type": "integer", "minimum": 200, "maximum": 599},
    tried=(200, 201, 404, 500, 502, 503, 504),
    default=200,
)
SITUATION = Option("situation", "A situation of the operation.", NAME)
RETRY_AFTER = Option("retry_after", "Retry-After, in seconds.", DAY, tried=(0, 1, 5, 120), usual="as in the contract")
RETRY_AFTER_DATE = Option(
    "retry_after_date",
    "Retry-After as an HTTP-date, in seconds from now.",
    DAY,
    tried=(0, 5, 120),
    usual="as `retry_after`",
)
WORD = Option(
    "word",
    "The stage that the response shows.",
    {"type": "string", "maxLength": 60},
    tried=("", "reticulating", "DONE", "Completed "),
)
VALUE = Option(
    "value",
    "The bound name of the field.",
    NAME,
    usual="the main value of the operation, such as `job` for `submit`",
)
TYPE = Option(
    "type",
    "A media type.",
    {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[ -~]+$"},
    tried=("application/octet-stream", "binary/octet-stream", "text/html", "video/mp4; codecs=avc1"),
)
COUNT = Option(
    "count",
    "The total number of deliveries.",
    {"type": "integer", "minimum": 2, "maximum": 20},
    tried=range(2, 5),
    # Two are enough to be a duplicate.
    default=2,
)
STAGE = Option(
    "stage",
    "The stage, or class of stages, in which the job ends or is stuck.",
    NAME,
    usual="the first possible one",
)
LAST = Option(
    "last",
    "With a class of stages: its last stage on the usual path instead of its first.",
    {"type": "boolean"},
    default=False,
)
CODE = Option("code", "The error's code.", {"type": "string", "maxLength": 200}, tried=("CONTENT_POLICY", "UPSTREAM"))
MESSAGE = Option(
    "message",
    "The error's message.",
    {"type": "string", "maxLength": 2_000},
    tried=("the prompt was refused", "out of memory"),
)
END_SECONDS = Option(
    "seconds",
    "The time from the start of the job to its end.",
    SECONDS_BOUNDS,
    tried=SECONDS.tried,
    usual="the usual duration",
)
NAMES = Option(
    "names",
    "The case of header names: lower, upper or title.",
    {"type": "string", "enum": ["lower", "upper", "title"], "maxLength": 5},
    tried=("lower", "upper", "title"),
    default="lower",
)
CODING_NAME = Option(
    "coding",
    "The content coding: gzip or deflate.",
    {"type": "string", "enum": ["gzip", "deflate"], "maxLength": 7},
    tried=("gzip", "deflate"),
    default="gzip",
)
FRAMING_NAME = Option(
    "framing",
    "How the end of the body is marked: chunked, by the close of the connection, or by its length.",
    {"type": "string", "enum": ["chunked", "close", "length"], "maxLength": 7},
    tried=("chunked", "close", "length"),
    default="chunked",
)
VERSION = Option(
    "version",
    "The HTTP version of the response.",
    {"type": "string", "enum": ["1.0", "1.1"], "maxLength": 3},
    tried=("1.0",),
    usual="1.1",
)
ENDS_BY = Option(
    "ends",
    "How the connection is closed after the response: announced in a header, or silent.",
    {"type": "string", "enum": ["announced", "silent"], "maxLength": 9},
    tried=("announced", "silent"),
    usual="it stays open",
)
SEGMENT = Option(
    "segment",
    "The bytes that are written at once, or more if a response would take over 400 writes.",
    {"type": "integer", "minimum": 1, "maximum": 65_536},
    tried=(1, 7, 1_000),
    usual="all at once",
)
