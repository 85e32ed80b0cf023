"""A provider is a folder of data: each one copied under another name, with everything on the wire renamed, works.

The renaming is mechanical. It walks the JSON of a folder by a table of states, and knows the contract format only.
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from hobbyhorse.contract.documents.defaults import complete
from hobbyhorse.contract.documents.marks import mark_for, marked, unmarked
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.folder import load, read_documents
from hobbyhorse.contract.forms.expressions import (
    MISSING,
    ExpressionError,
    Message,
    format_pointer,
    parse,
    parse_pointer,
    replaced,
)
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, verify
from hobbyhorse.contract.lint import lint, lint_directory
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.reading import message_of, read_callback
from hobbyhorse.contract.schemas import address
from hobbyhorse.contract.values import Binding, Contract, Situation
from hobbyhorse.media.probe import probe
from hobbyhorse.worlds.world import Ending
from tests import specimen
from tests.conftest import CONTRACTS, DIRECTORY, ROOT, contracts_that
from tests.world import Mock, Reply

LIFECYCLE, OPENAPI = "lifecycle.json", "openapi.json"
STANDARD_HEADERS = ("Retry-After",)

# ---- the table: in which state a value is, by the state and the key that it stands below; `*` is any other key

SITUATION = {"stages": "stage", "when": "plain", "headers": "header names", "*": "plain"}

STATES: Mapping[str, Mapping[str, str]] = {
    OPENAPI: {
        "paths": "paths",
        "callbacks": "callbacks of an operation",
        "properties": "fields",
        "headers": "headers",
        "examples": "examples",
        "required": "field",
        "enum": "word",
        "const": "word",
        "default": "kept",
        "example": "kept",
        "security": "kept",
        "$ref": "reference",
        "url": "address",
        "name": "parameter",
        "*": OPENAPI,
    },
    "paths": {"*": OPENAPI},
    "fields": {"*": OPENAPI},
    "headers": {"*": OPENAPI},
    "examples": {"*": "example"},
    "example": {"value": "message", "*": "kept"},
    "message": {"*": "message"},
    "callbacks of an operation": {"*": "callback of an operation"},
    "callback of an operation": {"*": OPENAPI},
    LIFECYCLE: {
        "name": "kept",
        "initial": "stage",
        "stages": "stages",
        "situations": "situations",
        "operations": "operations",
        "models": "model",
        "callbacks": "callbacks",
        "assumptions": "kept",
        "variants": "variants",
        "*": "plain",
    },
    "stages": {"*": "a stage"},
    "a stage": {"next": "stage", "*": "plain"},
    "situations": {"*": "situation"},
    "situation": SITUATION,
    "operations": {"*": "operation"},
    "operation": {"situations": "situations", "items": "items", "forms": "form", "*": "plain"},
    "items": {"bindings": "pointers", "stages": "stages", "*": "plain"},
    "pointers": {"as": "kept", "*": "pointers"},
    "form": {"set": "pointer names", "*": "plain"},
    "pointer names": {"*": "plain"},
    "model": {"parameters": "pointers", "*": "kept"},
    "callbacks": {"situations": "situations", "signature": "signature", "*": "plain"},
    "signature": {"headers": "header names", "*": "kept"},
    "header names": {"*": "kept"},
    "variants": {"*": "variant"},
    "variant": {"set": "settings", "*": "kept"},
    "plain": {"*": "plain"},
    "kept": {"*": "kept"},
}

KEYS = {
    "paths": "path",
    "fields": "field",
    "headers": "header",
    "header names": "header",
    "message": "field",
    "callback of an operation": "expression",
    "stages": "stage",
    "pointer names": "pointer",
    "plain": "expression",
}
"""How the keys of an object are renamed, by the object's state; not at all where it is not named here."""

TEXTS = {
    "header": "header",
    "field": "field",
    "word": "word",
    "message": "word",
    "stage": "stage",
    "pointers": "pointer",
    "reference": "reference",
    "address": "address",
    "plain": "expression",
}
"""How a text is renamed, by its state."""


def turned(text: str) -> str:
    """Return a text that nobody would take for the other one."""
    return codecs.encode(text, "rot13")


@dataclass
class Renaming:
    """Renames one folder, and keeps what it renamed by kind, and where each place went."""

    contract: Contract
    words: frozenset[str]
    done: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    moved: dict[str, str] = field(default_factory=dict)

    def document(self, file: str, value: Any) -> Any:
        """Rename a file of the folder."""
        return self.walk(file, LIFECYCLE if file == LIFECYCLE else OPENAPI, value, (), ())

    def walk(self, file: str, state: str, value: Any, old: tuple[str, ...], new: tuple[str, ...]) -> Any:
        """Rename a value and all below it; `old` and `new` are its places."""
        self.moved[f"{file}#{format_pointer(old)}"] = f"{file}#{format_pointer(new)}"
        if isinstance(value, dict):
            if state == "settings":
                return {self.setting(at): self.walk_setting(at, one) for at, one in value.items()}
            renamed = {}
            for key, child in value.items():
                name = self.rename(KEYS.get(state, ""), key)
                renamed[name] = self.walk(file, self.below(state, key, value), child, (*old, key), (*new, name))
            return renamed
        if isinstance(value, list):
            state = "kept" if state == "examples" else state
            return [
                self.walk(file, state, child, (*old, str(index)), (*new, str(index)))
                for index, child in enumerate(value)
            ]
        if isinstance(value, str):
            return self.reference(value, file) if state == "reference" else self.rename(TEXTS.get(state, ""), value)
        return value

    def below(self, state: str, key: str, parent: Mapping[str, Any]) -> str:
        """Return the state of what stands below a key."""
        table = STATES.get(state, STATES["kept"])
        found = table.get(key, table["*"])
        if found == "parameter":
            return {"header": "header", "path": "field", "query": "field"}.get(parent.get("in", ""), "kept")
        return found

    def setting(self, pointer: str) -> str:
        """Rename the place that a variant sets."""
        return self.reference(f"{LIFECYCLE}#{pointer}", LIFECYCLE).partition("#")[2]

    def walk_setting(self, pointer: str, value: Any) -> Any:
        """Rename the value that a variant sets, as if it stood in its place."""
        state = LIFECYCLE
        for step in parse_pointer(pointer):
            state = state if step.isdigit() else self.below(state, step, {})
        return self.walk("a variant", state, value, (), ())

    def rename(self, kind: str, text: str) -> str:
        """Rename a text of a kind, and note it."""
        if not kind:
            return text
        name: str = getattr(self, f"_{kind}")(text)
        if name != text:
            self.done[kind][text] = name
        return name

    def reference(self, text: str, file: str) -> str:
        """Rename `file#pointer`, or `#pointer` in the same file, to where the place went."""
        target, _, pointer = text.partition("#")
        if not pointer:
            return text
        found = self.moved.get(f"{target or file}#{pointer}", f"{target or file}#{pointer}")
        return found if target else f"#{found.partition('#')[2]}"

    def _field(self, text: str) -> str:
        return turned(text)

    def _stage(self, text: str) -> str:
        return turned(text)

    def _word(self, text: str) -> str:
        return turned(text) if text in self.words else self._address(text)

    def _header(self, text: str) -> str:
        return text if text in STANDARD_HEADERS else turned(text)

    def _path(self, text: str) -> str:
        """Rename a path: its version, every word in it, and the names of its parameters."""
        segments = [
            "{" + self.rename("field", segment[1:-1]) + "}"
            if segment.startswith("{")
            else {"": "", "v1": "api/v9"}.get(segment, turned(segment))
            for segment in text.split("/")
        ]
        return "/".join(segments)

    def _address(self, text: str) -> str:
        """Rename the host of an address of the provider's API."""
        for host in self.contract.hosts:
            text = text.replace(f"https://{host}", f"https://{turned(host.replace('.', '-'))}.example")
        return text

    def _pointer(self, text: str) -> str:
        """Rename the steps of a pointer that are no index of a list."""
        return format_pointer(
            tuple(step if step.isdigit() else self.rename("field", step) for step in parse_pointer(text))
        )

    def _expression(self, text: str) -> str:
        """Rename the place that a runtime expression names, in braces or not; other texts stay."""
        bare = text.removeprefix("{").removesuffix("}")
        try:
            place = parse(bare)
        except ExpressionError:
            return text
        if place.part == "body":
            renamed = f"${place.side}.body#{self._pointer(format_pointer(place.pointer))}"
        else:
            kind = "header" if place.part == "header" else "field"
            name = bare.split(".", 2)[2]
            renamed = f"${place.side}.{place.part}.{self.rename(kind, name)}"
        return text.replace(bare, renamed)


def situations(contract: Contract) -> Iterator[tuple[Situation, list[Binding]]]:
    """Yield everything that a provider says, with the bindings of it."""
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            yield situation, list(operation.bindings.values())
    for situation in contract.unrouted.values():
        yield situation, []
    if contract.callbacks is not None:
        for situation in contract.callbacks.situations.values():
            yield situation, list(contract.callbacks.bindings.values())


def words_of(contract: Contract) -> frozenset[str]:
    """Return the words on the wire that tell how a job stands, and the names of the stages."""
    found = set(contract.graph.stages)
    for situation, bindings in situations(contract):
        example = Message({}, {}, lambda name: None, contract.schemas.at(situation.example_at))
        for binding in bindings:
            if binding.name in CONSTANT:
                said = [place.get(example) for place in (*binding.response, *binding.request)]
                found |= {word for word in said if isinstance(word, str)}
    return frozenset(found)


@dataclass(frozen=True)
class MadeUp:
    """A made-up provider, and what it was made from."""

    contract: Contract
    original: Contract
    folder: Path
    renaming: Renaming

    @property
    def old_fields(self) -> set[str]:
        return set(self.renaming.done["field"])

    @property
    def old_paths(self) -> set[str]:
        """The beginnings of the original's paths, up to their first parameter."""
        return {operation.path.partition("{")[0] for operation in self.original.operations.values()}


def make_up(original: Contract, directory: Path) -> MadeUp:
    """Copy a provider's folder under another name, with every path, field, word and host of it renamed."""
    source = DIRECTORY / original.key
    folder = directory / f"acme-{turned(original.key)}"
    (folder / "models").mkdir(parents=True)
    renaming = Renaming(original, words_of(original))
    bare, marks, _ = unmarked(read_documents(source))
    # Written out, because a name that stands for something would stand for nothing under another name.
    documents = complete(bare)
    for _ in range(2):  # the second time every reference is known
        renamed = {file: renaming.document(file, document) for file, document in documents.items()}
    moved = []
    for mark in marks:
        file, _, pointer = renaming.moved[address(mark.file, mark.pointer)].partition("#")
        moved.append(mark_for(file, renamed[file], parse_pointer(pointer), mark.reason))
    for file, document in marked(renamed, moved).items():
        (folder / file).write_text(json.dumps(document, indent=2))
    return MadeUp(load(folder), original, folder, renaming)


@pytest.fixture(scope="module")
def all_made_up(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, MadeUp]:
    directory = tmp_path_factory.mktemp("made-up")
    return {contract.key: make_up(contract, directory) for contract in CONTRACTS}


@pytest.fixture
def made(contract: Contract, all_made_up: Mapping[str, MadeUp]) -> MadeUp:
    """A made-up provider for each of the project's; a new one is tested by being there."""
    return all_made_up[contract.key]


# ---- nothing old is left


def old_names(made: MadeUp, value: Any) -> Iterator[str]:
    """Yield every old field name and every old word in a message; a model's JSON Schema has its own keywords."""
    schema_at = {
        place.pointer[-1]
        for operation in made.contract.operations.values()
        for bindings in (operation.bindings, operation.items.bindings if operation.items else {})
        if "schema" in bindings
        for place in bindings["schema"].response
    }
    if isinstance(value, dict):
        for key, child in value.items():
            if key in made.old_fields:
                yield key
            if key not in schema_at:
                yield from old_names(made, child)
    elif isinstance(value, list):
        for child in value:
            yield from old_names(made, child)
    elif isinstance(value, str) and value in made.renaming.words:
        yield value


def assert_nothing_old(made: MadeUp, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Assert that a message has no field, no word, no path and no header of the original."""
    assert list(old_names(made, orjson.loads(body))) == []
    for path in made.old_paths:
        assert path.encode() not in body
    assert made.original.hosts[0].encode() not in body
    assert not {name.lower() for name in made.renaming.done["header"]} & set(headers or {})


def test_the_check_for_old_names_finds_them(made: MadeUp) -> None:
    """The original's own answers are full of them."""
    operation = made.original.operations["status"]
    for situation in operation.situations.values():
        if situation.stages:
            body = situation.template.write(lambda name: MISSING)
            with pytest.raises(AssertionError):
                assert_nothing_old(made, body)


def test_everything_that_a_client_sees_has_another_name(made: MadeUp) -> None:
    old, new = made.original, made.contract
    assert new.key != old.key
    assert not set(new.hosts) & set(old.hosts)
    assert not set(new.graph.stages) & set(old.graph.stages)
    assert {kind: len(stage) for kind, stage in kinds(new).items()} == {
        kind: len(stage) for kind, stage in kinds(old).items()
    }
    for role, operation in new.operations.items():
        assert operation.path != old.operations[role].path
        assert not {one.name for one in operation.parameters} & {one.name for one in old.operations[role].parameters}
    for renamed in made.renaming.done.values():
        assert len(set(renamed.values())) == len(renamed)
    assert not made.old_fields & set(made.renaming.done["field"].values())


def kinds(contract: Contract) -> dict[str, list[str]]:
    """Return the stages of each class."""
    found: dict[str, list[str]] = {}
    for stage in contract.graph:
        found.setdefault(stage.kind, []).append(stage.name)
    return found


def test_every_answer_that_a_made_up_provider_can_give_has_nothing_old(made: MadeUp) -> None:
    for situation, _ in situations(made.contract):
        body = situation.template.write(lambda name: MISSING)
        assert list(old_names(made, orjson.loads(body))) == [], situation.name
        assert not {name for name, _ in situation.headers} & set(made.renaming.done["header"])


def test_a_made_up_provider_is_a_contract_without_a_problem(made: MadeUp) -> None:
    assert lint(made.folder) == []


def test_made_up_providers_are_found_by_listing(all_made_up: Mapping[str, MadeUp]) -> None:
    folders, problems = lint_directory(next(iter(all_made_up.values())).folder.parent)
    assert [folder.name for folder in folders] == sorted(made.contract.key for made in all_made_up.values())
    assert problems == []


# ---- it works


class Wire(Mock):
    """The fake with a made-up provider; keeps all that it answered."""

    def __init__(self, made: MadeUp, **options: Any) -> None:
        super().__init__([made.contract], **options)
        self.answered: list[Reply] = []

    async def send(self, *arguments: Any, **options: Any) -> Reply:
        reply = await super().send(*arguments, **options)
        self.answered.append(reply)
        return reply

    async def follow(self, made: MadeUp, job: str) -> Reply:
        """Read a job through all its stages; return its result."""
        contract, seen = made.contract, set()
        timeline = self.world.jobs[job].timeline
        for moment, stage in timeline:
            await self.clock.advance(max(0.0, moment - self.clock.now()))
            for role in ("status", "result"):
                if role in contract.operations:
                    reply = await self.call(contract, role, path={"job": job})
                    assert reply.reading is not None
                    assert stage in reply.reading.stages
            seen.add(stage)
        assert seen == set(contract.graph.path(contract.graph.initial))
        return reply


@pytest.mark.anyio
async def test_a_made_up_provider_makes_a_video_of_every_documented_job(made: MadeUp) -> None:
    contract = made.contract
    for operation, model, body in documented_jobs(contract):
        mock = Wire(made, pace="instant" if operation.role == "run" else "realistic")
        reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body)
        assert reply.reading is not None
        if operation.role == "submit":
            assert "accepted" in reply.reading.situations, reply.body
            reply = await mock.follow(made, reply.reading.values["job"])
        assert reply.reading is not None
        for answer in mock.answered:
            assert_nothing_old(made, answer.body, answer.headers)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake)) as browser:
            video = await browser.get(reply.reading.values["video_url"])
        assert video.status_code == 200
        assert probe(video.content).frames > 0


@pytest.mark.anyio
async def test_a_made_up_provider_plays_every_other_role_in_its_own_words(made: MadeUp) -> None:
    contract, mock = made.contract, Wire(made)
    operation, model, body = next(documented_jobs(contract))
    empty = await mock.call(contract, "submit", path={"model": model.id}, body={})
    nobody = await mock.call(contract, "submit", path={"model": model.id}, body=body, key=None)
    for reply, situation in ((empty, "invalid_request"), (nobody, "unauthenticated")):
        assert reply.reading is not None
        assert situation in reply.reading.situations
    job = await mock.submit(contract)
    for role in [role for role in contract.operations if role not in ("submit", "run")]:
        for named in ({"job": job, "model": model.id}, {"job": "nobody", "model": "nobody"}):
            path = {name: value for name, value in named.items() if name in contract.operations[role].bindings}
            reply = await mock.call(contract, role, path=path)
            assert reply.reading is not None
            assert reply.reading.situations, reply.body
    if "cancel" in contract.operations:
        status = await mock.call(contract, "status", path={"job": job})
        assert status.reading is not None
        assert {contract.graph[stage].kind for stage in status.reading.stages} == {"cancelled"}
    for reply in mock.answered:
        assert_nothing_old(made, reply.body, reply.headers)


@pytest.mark.anyio
async def test_a_made_up_provider_does_not_answer_by_the_old_names(made: MadeUp) -> None:
    mock = Wire(made)
    for operation, model, body in documented_jobs(made.original):
        path = operation.path
        for place in operation.bindings["model"].request:
            path = path.replace("{" + place.name + "}", model.id)
        reply = await mock.send(
            operation.method,
            f"/{made.contract.key}{path}",
            body=orjson.dumps(body),
            headers={"content-type": "application/json"},
        )
        assert reply.status == made.contract.unrouted["unknown_path"].status
        reply = await mock.call(made.contract, operation.role, path={"model": model.id}, body=body)
        assert reply.reading is not None
        assert not reply.reading.stages
        assert 400 <= reply.status < 500
        by_host = await mock.send("GET", "/", host=made.original.hosts[0])
        assert list(by_host.json) == ["providers"]
    assert mock.world.jobs == {}


@contracts_that(lambda contract: contract.callbacks is not None)
@pytest.mark.anyio
async def test_a_made_up_provider_tells_the_end_of_a_job_in_its_own_words(made: MadeUp) -> None:
    contract, mock = made.contract, Wire(made)
    assert contract.callbacks is not None
    operation, model, body = next(found for found in documented_jobs(contract) if found[0].role == "submit")
    body = replaced(body, operation.bindings["callback_url"].request[0].pointer, "http://127.0.0.1:1/nobody")
    await mock.call(contract, "submit", path={"model": model.id}, body=body)
    await mock.clock.run_until_idle()
    attempts = list(mock.fake.callback_dispatcher().attempts)
    assert len(attempts) == 1 + len(contract.callbacks.retries)
    for attempt in attempts:
        assert_nothing_old(made, attempt.body, {name.lower(): value for name, value in attempt.headers.items()})
        told = read_callback(contract.schemas, contract.callbacks, message_of([], orjson.loads(attempt.body)))
        assert {contract.graph[stage].kind for stage in told.stages} == {"success"}


# ---- the specimen, which has what none of the project's providers has


async def told_end(acme: Contract, ending: Ending, secret: str = DEFAULT_SECRET) -> tuple[Mock, bytes, dict[str, str]]:
    """Return a fake that called back at the end of a job, with the message and its headers."""
    mock = Mock([acme], callback_secret=secret)
    mock.world.endings.append(ending)
    operation, model, body = next(documented_jobs(acme))
    body = replaced(body, ("callback_url",), "http://127.0.0.1:1/nobody")
    await mock.call(acme, "submit", path={"model": model.id}, body=body)
    await mock.clock.run_until_idle()
    attempt = next(iter(mock.fake.callback_dispatcher().attempts))
    return mock, attempt.body, {name.lower(): value for name, value in attempt.headers.items()}


@pytest.mark.anyio
async def test_a_signature_and_its_time_stand_in_one_header() -> None:
    acme = load(specimen.FOLDER)
    assert acme.callbacks is not None
    signature = acme.callbacks.signature
    assert signature is not None
    mock, body, headers = await told_end(acme, Ending("done"), "by hand")
    found = re.fullmatch("t=([0-9]+),v1=([0-9a-f]{64})", headers["acme-signature"])
    assert found is not None
    assert found[2] == hmac.new(b"by hand", f"{found[1]}.".encode() + body, hashlib.sha256).hexdigest()
    now = float(found[1])
    assert verify(signature, "by hand", body, headers, now=now)
    assert not verify(signature, "by hand", body + b" ", headers, now=now)
    assert not verify(signature, "by hand", body, headers, now=now + 301)
    both = {"acme-signature": f"t={found[1]},v1={'0' * 64},v1={found[2]}"}
    assert verify(signature, "by hand", body, both, now=now)
    later = {"acme-signature": headers["acme-signature"].replace(found[1], str(int(found[1]) + 1))}
    assert not verify(signature, "by hand", body, later, now=now)


@pytest.mark.anyio
async def test_refusals_and_failed_jobs_share_an_error_object() -> None:
    acme = load(specimen.FOLDER)
    mock, body, _ = await told_end(acme, Ending("failed", "SOME_CODE", "some words"))
    assert orjson.loads(body)["error"] == {"code": "SOME_CODE", "message": "some words"}
    (job,) = mock.world.jobs
    failed = await mock.call(acme, "status", path={"job": job})
    assert failed.json["error"] == {"code": "SOME_CODE", "message": "some words"}
    assert failed.reading is not None
    assert failed.reading.situations == ("failed",)
    assert (failed.reading.values["error_code"], failed.reading.values["error_message"]) == ("SOME_CODE", "some words")
    refused = await mock.call(acme, "submit", body={"model": "acme/move", "input": {}})
    assert refused.json["error"]["code"] == 1
    assert "image" in refused.json["error"]["message"]
    assert refused.reading is not None
    assert refused.reading.situations == ("invalid_request",)
    assert refused.reading.values["refusal_message"] == refused.json["error"]["message"]


def test_the_form_of_an_api_key_is_known() -> None:
    form = load(specimen.FOLDER).key_form
    assert form is not None
    assert re.fullmatch(form.pattern, form.example)
    assert all(contract.key_form is None or contract.key_form.pattern for contract in CONTRACTS)


def test_the_projects_own_tests_pass_for_made_up_providers(all_made_up: Mapping[str, MadeUp]) -> None:
    """In a pytest of their own, which finds the made-up contracts where the project's would be."""
    directory = next(iter(all_made_up.values())).folder.parent
    tests = ["tests/server/test_app.py", "tests/contract/test_roundtrip.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "acme", *tests],
        cwd=ROOT,
        env={**os.environ, "HOBBYHORSE_TEST_CONTRACTS": str(directory)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5_000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 50 * len(all_made_up)
    assert "failed" not in done.stdout
