"""The parts of a contract, as frozen values. Reads no files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from hobbyhorse.contract.documents.operations import JSON_TYPE
from hobbyhorse.contract.forms.expressions import MISSING, Place, Pointer
from hobbyhorse.contract.forms.signatures import Signature
from hobbyhorse.contract.lifecycle import Graph
from hobbyhorse.contract.message import Template
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.schemas import Schemas


@dataclass(frozen=True, slots=True)
class Binding:
    """A named value: the request places to read it from, the response places to write it to, and its format."""

    name: str
    request: tuple[Place, ...]
    response: tuple[Place, ...]
    format: str | None = None


HEADER_VALUES = frozenset({"job", "model", "status_url", "result_url", "cancel_url", "video_url", "first_frame_url"})
"""The values that a response can have in a header: texts of the server. A text of the client could be any bytes."""


@dataclass(frozen=True, slots=True)
class BoundHeader:
    """A bound header: its name, its value's name, and whether the example is the path of a URL without the origin."""

    name: str
    value: str
    path_only: bool

    def write(self, value: str) -> str:
        """Return the value as the example has it."""
        parts = urlsplit(value) if self.path_only else None
        return value if parts is None else urlunsplit(("", "", *parts[2:]))


@dataclass(frozen=True, slots=True)
class Situation:
    """One response: its status, the addresses of its example and schema, its stages, and its condition.

    `items` are the templates of the items in the example's list. `bound_headers` are the headers with live values.
    """

    name: str
    status: int
    example_at: str
    schema: str
    template: Template
    stages: frozenset[str]
    when: tuple[tuple[Place, Any], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    items: tuple[Template, ...] = ()
    bound_headers: tuple[BoundHeader, ...] = ()
    media_type: str = JSON_TYPE

    @property
    def empty(self) -> bool:
        """Whether the response has no content."""
        return self.template.example is MISSING


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared path, query or header parameter; `schema` is the address of its schema."""

    name: str
    part: str
    required: bool
    type: str
    schema: str
    default: Any = None
    multi_segment: bool = False

    @property
    def place(self) -> Place:
        """The parameter's place in a request."""
        return Place("request", self.part, self.name.lower() if self.part == "header" else self.name)


@dataclass(frozen=True, slots=True)
class Form:
    """An alternative form of a request, and its conversion to the documented form."""

    name: str
    when: Place
    set: tuple[tuple[Pointer, Place], ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list in a response: its place, the bindings inside an item, and the index of each stage's item."""

    at: Place
    bindings: Mapping[str, Binding]
    stages: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Operation:
    """One role: its method and path, its situations, and the places of its values."""

    role: str
    operation_id: str
    method: str
    path: str
    pattern: re.Pattern[str]
    authenticated: bool
    parameters: tuple[Parameter, ...]
    body_schema: str | None
    body_examples: Mapping[str, Any]
    situations: Mapping[str, Situation]
    bindings: Mapping[str, Binding]
    model_parameters: Place
    forms: tuple[Form, ...]
    items: Items | None
    link: tuple[str, str] | None
    """The parts of this operation's path around the job's id."""


@dataclass(frozen=True, slots=True)
class PromptLimit:
    """The maximum length of a prompt, in characters of weight one, and whether a longer one is truncated or refused."""

    characters: int
    chinese_weight: int
    over: str


@dataclass(frozen=True, slots=True)
class Model:
    """One model: the places and defaults of its parameters, the limits of its inputs, and USD per second of output."""

    id: str
    name: str
    task: str
    aliases: tuple[str, ...]
    schema_file: str
    schema: str
    parameters: Mapping[str, tuple[Pointer, ...]]
    defaults: Mapping[str, Any]
    random_seed: int | None
    images: PictureLimits | None
    prompt_limit: PromptLimit | None
    price: Mapping[str, Decimal]

    def cost(self, resolution: str | None, seconds: float) -> Decimal:
        """Return the price of a video in USD."""
        rate = self.price.get(resolution or "") or max(self.price.values())
        return rate * Decimal(str(seconds))


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The callbacks that the provider sends, their signature, and the seconds between attempts.

    `growing` means that each of these delays is longer than the one before, even if their lengths are only assumed.
    """

    operation_id: str
    situations: Mapping[str, Situation]
    bindings: Mapping[str, Binding]
    signature: Signature | None
    retries: tuple[float, ...]
    growing: bool
    deadline: float


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The policy for a repeated key (`none`, `replay`, `reject`), the key's place, and its lifetime in seconds."""

    mode: str
    key: Place | None = None
    life: float = 86_400.0

    @property
    def named(self) -> str:
        """The key's name in its usual spelling, or "" if there is no key."""
        return "" if self.key is None else self.key.name.title() or str(self.key)


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds after a job's end during which the job can be read and its media fetched. None means forever."""

    job: float | None
    result_url: float | None


@dataclass(frozen=True, slots=True)
class Polling:
    """Polling times in seconds: the minimum and the typical interval, and the maximum time that a client waits."""

    least_interval: float
    typical_interval: float
    longest_wait: float


@dataclass(frozen=True, slots=True)
class KeyForm:
    """The format of an API key: a regular expression, and an invented key that matches it."""

    pattern: str
    example: str


@dataclass(frozen=True, slots=True)
class Assumption:
    """Places (file#pointer) with facts that no document states, and the reason for these facts."""

    at: tuple[str, ...]
    why: str
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """An alternative reading of documentation that contradicts itself."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Client:
    """Texts that point a known client at another server. They may contain {url}, {key} and {secret}."""

    name: str
    environment: Mapping[str, str]
    code: str | None


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract of one provider."""

    key: str
    name: str
    documents: tuple[str, ...]
    hosts: tuple[str, ...]
    graph: Graph
    operations: Mapping[str, Operation]
    unrouted: Mapping[str, Situation]
    models: tuple[Model, ...]
    security: tuple[tuple[str, str, str], ...]
    idempotency: Idempotency
    retention: Retention
    polling: Polling
    callbacks: Callbacks | None
    job_id_form: str
    job_id_prefix: str
    key_form: KeyForm | None
    assumptions: tuple[Assumption, ...]
    variants: tuple[Variant, ...]
    clients: tuple[Client, ...]
    schemas: Schemas = field(repr=False, compare=False)
    written: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """lifecycle.json as its author wrote it: without marks, and without the members that were filled in."""

    def equals(self, other: Contract) -> bool:
        """Whether another contract was built from equal documents."""
        return self == other and self.schemas.equals(other.schemas)

    def environment(self, url: str, key: str, secret: str, base: str | None = None) -> dict[str, str]:
        """Return the environment variables that point clients at the server at `url`, with an API key and a secret.

        `base` is the provider's base URL if it is not below `url`.
        """
        name = "".join(letter if letter.isalnum() else "_" for letter in self.key.upper())
        values = {"url": base or f"{url.rstrip('/')}/{self.key}", "key": key, "secret": secret}
        variables = {f"{name}_BASE_URL": values["url"], f"{name}_API_KEY": key}
        signed = self.callbacks is not None and self.callbacks.signature is not None
        # The contract may have the name that the provider's own client uses.
        if signed and not any("{secret}" in text for one in self.clients for text in one.environment.values()):
            variables[f"{name}_WEBHOOK_SECRET"] = secret
        for client in self.clients:
            variables |= {variable: text.format(**values) for variable, text in client.environment.items()}
        return variables

    @property
    def example_key(self) -> str:
        """An API key that has the documented form."""
        return self.key_form.example if self.key_form is not None else "test"

    def assumption(self, place: str) -> Assumption | None:
        """Return the assumption that covers a place, such as `lifecycle.json#/polling`, or None."""
        # An assumption covers everything under its place. A prefix of the text would also cover `/status2`.
        covers = (one for one in self.assumptions if any(place == at or place.startswith(f"{at}/") for at in one.at))
        return next(covers, None)

    @property
    def polling_documented(self) -> bool:
        """Whether the polling times are documented. If they are assumed, a client cannot know them."""
        return self.assumption("lifecycle.json#/polling") is None

    def model(self, name: str) -> Model | None:
        """Return the model with an id or alias, or None."""
        return next((model for model in self.models if name == model.id or name in model.aliases), None)


FALLBACKS: Mapping[str, str] = {
    "replayed": "accepted",
    "key_refused": "unauthenticated",
    "unsupported_media_type": "malformed_body",
    "malformed_body": "invalid_request",
    "body_too_large": "invalid_request",
    "unknown_model": "invalid_request",
    "foreign_job": "unknown_job",
    "expired_job": "unknown_job",
    "key_in_flight": "invalid_request",
    "key_used": "key_mismatch",
    "key_mismatch": "invalid_request",
    "invalid_request": "server_error",
    "overloaded": "server_error",
}
"""For each situation, the one to use if a contract does not have it; see contracts/README.md."""


def find_situation(operation: Operation, name: str) -> Situation | None:
    """Return the operation's situation with a name, else its first existing fallback, else None."""
    wanted: str | None = name
    while wanted is not None:
        if (situation := operation.situations.get(wanted)) is not None:
            return situation
        wanted = FALLBACKS.get(wanted)
    return None
