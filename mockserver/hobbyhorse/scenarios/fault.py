"""A fault as one record: where it can stand, what it does, its options, and its uses in the suites. No sockets.

    RESET = Fault(
        name="reset_peer",
        stands=(OPERATION, MEDIA),
        says="resets the connection (a TCP RST) without a byte",
        effect=lambda decided, options: Reset(),
        options=(ACCEPTED,),
        rank=RANK,
        replaces=True,
        uses=frozenset({GRAVE}),
    )

A record in a module of `scenarios/faults/` is all that a fault needs: the registry finds it by listing that folder. The
format of scenario files, its schema, the tables of docs/scenarios.md, the list of `hobbyhorse scenarios --faults` and
the search all read the records. No other file names a fault; it asks the registry for a use instead.

What `effect` receives and returns depends on the place:

| place     | receives                          | returns                        |
|-----------|-----------------------------------|--------------------------------|
| operation | DecidedOperation and options      | the response, or a wire effect |
| media     | Decided and options               | the response, or a wire effect |
| callback  | the contract's Callbacks, options | a callback effect              |
| timeline  | PlannedJob and options            | the timeline                   |

The options are complete: those of the scenario, and the defaults of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hobbyhorse.contract.lifecycle import Graph, Lasting, Stage
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fields import Needs, has_field

Options = Mapping[str, Any]

OPERATION, MEDIA, CALLBACK, TIMELINE = "operation", "media", "callback", "timeline"
"""The places of faults. A scenario names an operation by its role."""
REFUSAL = "refusal"
"""The place of the record that stands for every situation of an operation."""

FAULT, VARIATION = "fault", "variation"
"""The kinds: something goes wrong, or a right server expresses itself differently."""

MUST, SHOULD = "MUST", "SHOULD"
"""The levels of variations: a standard or the provider's document obliges the client, or experience advises it."""

# ---- the layers of a response

STATUS_LAYER, MEMBERS, LINKS, TEXT, HEADERS, CODING, FRAMING = (
    "status",
    "members",
    "links",
    "text",
    "headers",
    "coding",
    "framing",
)
LAYERS = (STATUS_LAYER, MEMBERS, LINKS, TEXT, HEADERS, CODING, FRAMING)
"""The parts of a response that variations change, in the order in which they are written."""

# ---- uses that any number of faults may have

GRAVE = "grave"
"""It leaves a client without a report about its job."""
ADDS = "adds"
"""It adds fields, or changes their order, and nothing else."""
RANGED = "ranged"
"""It shows only in the response to a request for a range of a file."""
UNRANGED = "unranged"
"""It makes the server ignore the Range of a request for a file."""
FAILING = "failing"
"""It shows in the response of a failed job only."""
DIVIDES = "divides"
"""It cuts a text, which shows only if a character has several bytes."""
HEADS = "heads"
"""It changes the response to HEAD, and no other."""
LURE = "lure"
"""It leads a client to another host."""
SPOILS = "spoils"
"""What it sends in place of a file is not the video."""
RETYPES = "retypes"
"""It sends the whole video as another media type."""
STALLS = "stalls"
"""It sends the rest of a body later than any client should wait for it."""
MISSIGNS = "missigns"
"""Its false callback has a wrong signature, or none."""
OUTDATES = "outdates"
"""Its false callback has an expired signature."""

# ---- uses that exactly one fault has, because a suite arms it or must recognize it; the registry checks that

CUTS = "cuts"
"""It breaks a file off, so that a client may ask for the rest."""
PASSES = "passes"
"""With `seconds` 0 it changes nothing: it lets a request pass before the next fault applies."""
HOLDS = "holds"
"""It holds a response back, while the client can be killed."""
FAILS = "fails"
"""It lets a job fail."""
STICKS = "sticks"
"""It keeps a job from ending."""
ENDS = "ends"
"""It ends a job successfully after `seconds`."""
UNSENT = "unsent"
"""It keeps a callback from being sent."""
ESTRANGES = "estranges"
"""Its false callback is for a job that was never submitted."""
EMPTIES = "empties"
"""Its callback has no payload."""
DRIPS = "drips"
"""It sends a body in pieces over a period."""
RETURNS = "returns"
"""It shows a job in its first stage again."""
MUDDLES = "muddles"
"""It sends a page in place of JSON."""
LOSES = "loses"
"""It performs a request, and loses the response."""
LEAVES = "leaves"
"""It closes the connection between two requests."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a fault: its type and bounds as JSON Schema, its meaning in one sentence, and its default.

    `tried` are the values that the search tries; none for a value that depends on the contract. `usual` describes a
    default that depends on the contract or on the request. `form` makes the option a variation, with a `source` and a
    `level`: it changes only how the fault is expressed, and `beside` has the options that the search gives with it.
    """

    name: str
    says: str
    schema: Mapping[str, Any]
    tried: tuple[Any, ...] | range = ()
    default: Any = None
    usual: str = "none"
    form: str = ""
    source: str = ""
    level: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)

    def by_default(self, default: Any) -> Option:
        """Return the option with another default."""
        return replace(self, default=default)

    def usually(self, usual: str) -> Option:
        """Return the option with another description of a default that is not constant."""
        return replace(self, usual=usual)


@dataclass(frozen=True, slots=True)
class Invalid:
    """An option value that a fault cannot have, the reason, and what to do instead."""

    option: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The response to a request for a file, and what a fault may use; `now` is the moment on the client's clock.

    `offered` are the content codings that the client accepts. `valid` returns whether a JSON value conforms to the
    contract in place of the response's body; a file has no such contract. `origins` are the known ones of the origins
    to which faults point clients: `foreign`, `port` and `private`, and `here`, that of the request. `target` is the
    path and query of the request. `known_tags` is its If-None-Match.
    """

    sent: Sent
    random: Random
    now: float
    method: str = "GET"
    offered: frozenset[str] = frozenset()
    valid: Callable[[Any], bool] = lambda value: True
    origins: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    known_tags: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedOperation(Decided):
    """The response of an operation, and what a fault may use.

    `name` is the fault's, or that of the situation which it shows. `refuse` returns the response of a situation.
    `earlier` returns the response for the job's first stage, None if the job is still there.
    """

    name: str
    operation: Operation
    refuse: Callable[[str], Sent]
    earlier: Callable[[], Sent | None]


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job whose timeline a fault lays: it starts at `start`, and `lasting` returns the duration of each stage.

    `longest_wait` is the longest wait in seconds that the contract documents for a client.
    """

    graph: Graph
    start: float
    lasting: Lasting
    longest_wait: float


def _applies(fault: Fault, decided: DecidedOperation, options: Options) -> bool:
    """Whether a response has what the fault needs."""
    if decided.method == "HEAD":
        return False
    needs = fault.needs
    return needs is None or has_field(needs, options, decided.operation, decided.sent.body)


def _misfits(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    """Yield the reasons why a fault does not apply to a contract: this default has none."""
    yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that a scenario can name; the module's docstring says what `effect` receives and returns.

    * `says` is the effect in one clause. `rank` orders the tables and the search: lower ones come first.
    * `replaces`: the operation has no effect, unless the fault is `accepted`. The fault then changes an empty response.
    * `needs` is what a response must have to be changed, `applies` an additional condition.
    * `misfits` yields the reasons why a contract has no room for it, `invalid` refuses an option value.
    * `seen`: whether a response that shows a job in a stage has met a timeline fault.
    * `uses` are the reasons for which a suite chooses it by its use, such as GRAVE.

    A variation also has a `layer` of LAYERS, the `form` by which a rule recognizes it, and the `source` that makes it
    right. Consecutive variations of different layers change the same response.
    """

    name: str
    stands: tuple[str, ...]
    says: str
    effect: Callable[[Any, Options], Any]
    rank: int
    kind: str = FAULT
    options: tuple[Option, ...] = ()
    replaces: bool = False
    needs: Needs | None = None
    applies: Callable[[Fault, Any, Options], bool] = _applies
    misfits: Callable[[Fault, Contract, Operation | None, Options], Iterator[str]] = _misfits
    invalid: Callable[[Options], Invalid | None] = lambda options: None
    seen: Callable[[Options, Stage, Graph], bool] = lambda options, stage, graph: stage.terminal
    uses: frozenset[str] = frozenset()
    layer: str = ""
    form: str = ""
    source: str = ""
    level: str = ""

    def has(self, option: str) -> bool:
        """Whether the fault has an option."""
        return any(one.name == option for one in self.options)

    def complete(self, options: Options) -> Options:
        """Return options with the defaults of the missing ones."""
        return {one.name: one.default for one in self.options if one.default is not None} | dict(options)
