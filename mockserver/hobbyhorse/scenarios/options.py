"""The options of faults: names, bounds, meanings, and the values that the search tries.

A few values with different meanings (none, short, long, beyond every deadline) find more than many similar ones.
"""

from __future__ import annotations

from typing import Any

from hobbyhorse.scenarios.fault import MUST, SHOULD, Option

NAME = {"type": "string", "minLength": 1, "maxLength": 60}
# Ten days: longer than any provider keeps a job.
SECONDS_BOUNDS = {"type": "number", "minimum": 0, "maximum": 864_000}
DAY = {"type": "integer", "minimum": 0, "maximum": 86_400}


def one_of(*words: str) -> dict[str, Any]:
    """Return the schema of an option with a few values."""
    return {"type": "string", "enum": list(words), "maxLength": max(map(len, words))}


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
    one_of("lower", "upper", "title"),
    # Uvicorn writes them in lower case, and real servers mostly in title case.
    tried=("lower", "upper", "title"),
    default="title",
)
CODING_NAME = Option(
    "coding",
    "The content coding: gzip or deflate; its name may be in capitals.",
    one_of("gzip", "deflate", "GZIP"),
    tried=("gzip", "deflate", "GZIP"),
    default="gzip",
)
FRAMING_NAME = Option(
    "framing",
    "How the end of the body is marked: chunked, by the close of the connection, or by its length.",
    one_of("chunked", "close", "length"),
    tried=("chunked", "close", "length"),
    default="chunked",
)
VERSION = Option(
    "version",
    "The HTTP version of the response.",
    one_of("1.0", "1.1"),
    tried=("1.0",),
    usual="1.1",
)
ENDS_BY = Option(
    "ends",
    "How the connection is closed after the response: announced in a header, or silent.",
    one_of("announced", "silent"),
    tried=("announced", "silent"),
    usual="it stays open",
)
SEGMENT = Option(
    "segment",
    "The bytes that are written at once, or more if a response would take over 400 writes.",
    {"type": "integer", "minimum": 1, "maximum": 65_536},
    tried=(1, 7),
    usual="all at once",
)
JSON_TEXT = Option(
    "text",
    "The form of the JSON: white space, every character escaped, HTML characters escaped, slashes escaped, "
    "ASCII only, or members in reverse.",
    one_of("spaced", "escaped", "html_safe", "slashes", "ascii", "reversed"),
    tried=("spaced", "escaped", "html_safe", "slashes", "ascii", "reversed"),
    default="spaced",
)
JSON_NUMBER = Option(
    "number",
    "The form of a whole number.",
    one_of("float", "exponent"),
    tried=("float", "exponent"),
    default="float",
)
FIRST = Option("first", "Whether the added member comes first.", {"type": "boolean"}, default=False)
PLACE = Option(
    "place",
    "The place of the added item.",
    one_of("first", "last"),
    tried=("last", "first"),
    default="last",
)
EMPTY = Option(
    "error_value",
    "The empty value.",
    one_of("null", "text", "object", "zero", "list", "false"),
    tried=("null", "text", "object", "zero", "list", "false"),
    default="null",
)
REPORT = Option(
    "report",
    "What the other callback reports: the same as the job's own, or a failure.",
    one_of("same", "failure"),
    tried=("same", "failure"),
    default="same",
)
APART = Option(
    "apart",
    "The seconds between the other callback and the job's own.",
    {"type": "number", "minimum": 0, "maximum": 86_400},
    tried=(0, 20),
    default=0.0,
)
PROGRESS = Option(
    "progress",
    "The progress: it goes back, is null, or is full before the end.",
    one_of("back", "null", "full"),
    tried=("back", "null", "full"),
    default="back",
)
SHAPE = Option(
    "shape",
    "The shape of the error: a text, an object with a number for its code, without code, without message, or null.",
    one_of("text", "number", "no_code", "no_message", "null"),
    tried=("text", "number", "no_code", "no_message", "null"),
    default="text",
)
JSON_TYPE = Option(
    "json_type",
    "The media type.",
    one_of("application/json; charset=utf-8", "Application/JSON"),
    tried=("application/json; charset=utf-8", "Application/JSON"),
    default="application/json; charset=utf-8",
)
OTHER_TYPE = Option(
    "type",
    "A media type.",
    TYPE.schema,
    tried=("none", "text/plain", "application/octet-stream", "text/html; charset=utf-8"),
    default="text/plain",
)
OK_STATUS = Option(
    "ok_status",
    "The status of success.",
    {"type": "integer", "minimum": 200, "maximum": 202},
    tried=(200, 201, 202),
    default=202,
)
OLDER = Option("older", "Whether the signature is too old, not too new.", {"type": "boolean"}, default=False)
# As long as a client waits between polls, so that each form of it makes a difference.
FORM_SECONDS = 5
RETRY_AFTER_FORM = Option(
    "retry_after_form",
    "Retry-After as a date, which RFC 9110 allows in place of seconds: as today, or in the form of RFC 850.",
    one_of("date", "rfc850"),
    tried=("date", "rfc850"),
    usual="seconds",
    form="form of Retry-After",
    source="RFC 9110, 10.2.3",
    level=MUST,
    beside={RETRY_AFTER.name: FORM_SECONDS},
)
RETRY_AFTER_ODD = Option(
    "retry_after_odd",
    "Retry-After in a form seen in the wild.",
    one_of("fraction", "blank", "negative", "repeated", "word", "asctime"),
    tried=("fraction", "blank", "negative", "repeated", "word", "asctime"),
    usual="seconds",
    form="odd Retry-After",
    source="seen in the wild",
    level=SHOULD,
    beside={RETRY_AFTER.name: FORM_SECONDS},
)
GATEWAY_STATUS = Option(
    "gateway_status",
    "A status of the class 5xx that only gateways send.",
    {"type": "integer", "minimum": 520, "maximum": 599},
    tried=(520, 524, 526, 529, 530),
    usual="the status",
    form="unknown status",
    source="RFC 9110, 15",
    level=MUST,
    beside={STATUS.name: 500},
)
PASSING_STATUS = Option(
    "passing_status",
    "A status of the class 4xx after which the same request may succeed.",
    {"type": "integer", "minimum": 408, "maximum": 425},
    tried=(408, 425),
    usual="the status",
    form="passing status",
    source="RFC 9110, 15.5.9, and RFC 8470, 5.2",
    level=SHOULD,
    beside={STATUS.name: 500},
)
QUERY = Option(
    "query",
    "The query: encoded delimiters, a plus sign, bare delimiters, repeated parameters, or empty ones.",
    one_of("encoded", "plus", "bare", "repeated", "no_value"),
    tried=("encoded", "plus", "bare", "repeated", "no_value"),
    default="encoded",
)
REDIRECT_STATUS = Option(
    "redirect_status",
    "The status of the redirect.",
    {"type": "integer", "enum": [301, 302, 303, 307, 308]},
    tried=(302, 307, 308),
    # The client may not change the method, so that a submission stays one.
    default=307,
)
PART = Option(
    "part",
    "The half of the requested range that is sent.",
    one_of("first", "last"),
    tried=("first", "last"),
    default="last",
)
SAVED_NAME = Option(
    "saved_name",
    "The name: of another folder, an absolute one, too long, in the form for other languages, unquoted, or none.",
    one_of("parent", "absolute", "long", "extended", "unquoted", "none"),
    tried=("parent", "absolute", "long", "extended", "unquoted", "none"),
    default="parent",
)
ID_TAIL = Option(
    "tail",
    "The added characters: legal in a path as they are, or only if they are encoded.",
    one_of("legal", "reserved"),
    # Most correct clients put an id into a path as it is, and no provider has ids with reserved characters.
    tried=("legal",),
    default="legal",
)
BOXES = Option(
    "boxes",
    "The last box of the file: one with a size of 64 bits, an empty one behind the usual one, or one without a size.",
    one_of("wide", "bare", "open"),
    # Hardly any file has a last box without a size.
    tried=("wide", "bare"),
    default="wide",
)
ERROR_TYPE = Option(
    "written_as",
    "The type: a text, a number (the code, if the error is an object), an object, or a list.",
    one_of("text", "number", "object", "list"),
    tried=("text", "number", "object", "list"),
    default="text",
)
