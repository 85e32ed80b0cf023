"""Callables as clients: how they are found and called, and which outcome a value or an error is."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.runners import callable as callables
from hobbyhorse.runners.callable import (
    CallbackTarget,
    ClientError,
    call,
    call_at,
    exposed_text,
    failure,
    find_client,
    success,
    takes,
    with_ids,
)
from hobbyhorse.runners.command import Target

ENDED = 1_767_225_600.0
HORSE = hashlib.sha256(b"horse").hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a client in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper_of_the_client.py").write_text("VALUE = 'helped'\n")
    (tmp_path / "client_of_the_tests.py").write_text(
        "import helper_of_the_client\n\nNUMBER = 5\n\n"
        "def generate(base_url, api_key, request):\n    return helper_of_the_client.VALUE\n\n"
        "def _private():\n    pass\n"
    )
    (tmp_path / "broken_client.py").write_text("import no_such_module_anywhere\n")
    return tmp_path


# ---- finding


@pytest.mark.parametrize("name", ["client_of_the_tests", "client_of_the_tests.py", "{folder}/client_of_the_tests.py"])
def test_a_client_is_found_by_module_or_file_beside_the_modules_that_it_imports(folder: Path, name: str) -> None:
    before = list(sys.path)
    client = find_client(f"{name.format(folder=folder)}:generate")
    assert client("", "", {}) == "helped"
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("generate", "'generate' is not a client; write MODULE:FUNCTION or FILE.py:FUNCTION"),
        (":generate", "is not a client"),
        ("client_of_the_tests:", "is not a client"),
        ("missing.py:generate", "'missing.py' does not exist"),
        ("no_such_module_anywhere:generate", "'no_such_module_anywhere' cannot be imported: ModuleNotFoundError"),
        ("broken_client.py:generate", "'broken_client.py' cannot be imported: ModuleNotFoundError"),
        ("client_of_the_tests.py:produce", "has no function 'produce'; known: generate"),
        ("client_of_the_tests.py:NUMBER", "has no function 'NUMBER'; known: generate"),
        ("helper_of_the_client:generate", "has no function 'generate'; known: none"),
    ],
)
def test_a_client_that_cannot_be_found_is_an_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ClientError) as raised:
        find_client(text)
    assert message in str(raised.value)


def test_a_file_named_like_an_installed_module_does_not_replace_it(folder: Path) -> None:
    (folder / "json.py").write_text("def generate(*given):\n    return 'mine'\n")
    json = sys.modules["json"]
    assert find_client("json.py:generate")() == "mine"
    assert sys.modules["json"] is json


def test_a_client_file_may_define_dataclasses(folder: Path) -> None:
    (folder / "with_a_dataclass.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Job:\n"
        "    id: str\n\n\ndef generate(*given):\n    return Job('task_7').id\n"
    )
    assert find_client("with_a_dataclass.py:generate")() == "task_7"


# ---- calling


def test_a_client_is_called_with_the_arguments_that_it_takes() -> None:
    target = CallbackTarget("http://127.0.0.1:9/", "whsec")

    def plain(base_url: str, api_key: str, request: Any) -> tuple[Any, ...]:
        return base_url, api_key, request

    def keywords(base_url: str, api_key: str, request: Any, **more: Any) -> tuple[Any, ...]:
        return base_url, api_key, request, more

    async def asynchronous(base_url: str, api_key: str, request: Any, *, model: str) -> tuple[Any, ...]:
        return base_url, api_key, request, model

    task = ("http://x", "key", {"prompt": "run"})
    assert call(plain, *task, model="m", callback=target) == task
    assert call(keywords, *task, model="m", callback=target) == (*task, {"model": "m", "callback": target})
    assert call(asynchronous, *task, model="m") == (*task, "m")


def test_a_client_of_two_providers_gets_dictionaries_in_their_order() -> None:
    def keywords(base_url: Any, api_key: Any, request: Any, **more: Any) -> tuple[Any, ...]:
        return base_url, api_key, request, more

    first = Target("z", "http://z", "key-z", {"n": 1}, "m", "http://127.0.0.1:9/", "whsec")
    second = Target("a", "http://a", "key-a", {"n": 2}, "n")
    bases, keys, requests, more = call_at(keywords, [first, second])
    assert list(bases.items()) == [("z", "http://z"), ("a", "http://a")]
    assert keys == {"z": "key-z", "a": "key-a"}
    assert requests == {"z": {"n": 1}, "a": {"n": 2}}
    assert more["model"] == {"z": "m", "a": "n"}
    assert more["callback"] == {"z": CallbackTarget("http://127.0.0.1:9/", "whsec"), "a": None}
    alone = call_at(keywords, [first])
    target = CallbackTarget("http://127.0.0.1:9/", "whsec")
    assert alone == ("http://z", "key-z", {"n": 1}, {"model": "m", "callback": target})


def test_a_callable_without_a_signature_takes_nothing_more() -> None:
    assert not takes(dict.fromkeys, "model") or sys.version_info >= (3, 14)
    assert not takes(type("Opaque", (), {"__call__": math.hypot, "__signature__": "none"})(), "model")


# ---- outcomes


def test_a_path_bytes_or_url_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "horse.mp4"
    path.write_bytes(b"horse")
    for value in (path, str(path), b"horse", bytearray(b"horse"), memoryview(b"horse")):
        outcome = success(value, ENDED)
        assert (outcome.kind, outcome.sha256, outcome.size, outcome.ended) == ("success", HORSE, 5, ENDED)
    outcome = success("HTTPS://example.com/horse.mp4", ENDED)
    assert (outcome.kind, outcome.by_reference, outcome.sha256) == ("success", True, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/no/such/video.mp4", "returned '/no/such/video.mp4', which cannot be read: "),
        ("\0", "which cannot be read: "),
        (None, "returned None; allowed: a path, bytes, or the video's URL"),
        ({"url": "https://example.com"}, "allowed: a path, bytes, or the video's URL"),
    ],
)
def test_any_other_value_is_an_empty_video_with_an_explanation(value: Any, message: str) -> None:
    outcome = success(value, ENDED)
    assert (outcome.kind, outcome.size, outcome.sha256) == ("success", 0, None)
    assert message in outcome.message


class ReadTimeout(Exception):
    """A time-out by its name alone, as httpx has one."""


class Pending(Exception):
    """A job that is under way, with its handle."""


class Handle:
    """An SDK's handle of a job, with the id in a public attribute."""

    def __init__(self, task: str) -> None:
        self.id = task


class Private:
    """An object with the id in a private attribute."""

    def __init__(self, task: str) -> None:
        self._id = task


class Group(Exception):
    """A group of errors, as `ExceptionGroup` is, which Python 3.10 does not have."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("errors")
        self.exceptions = errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (ReadTimeout("no words"), "timeout"),
        (ValueError("gave up waiting for the job"), "timeout"),
        (ValueError("job did not finish in 900 s"), "timeout"),
        (ValueError("job did not finish successfully"), "failed"),
        (ValueError("the job failed"), "failed"),
        (Group(TimeoutError("too long"), Group(Pending("deadline"))), "timeout"),
        (Group(TimeoutError("too long"), ValueError("no")), "failed"),
    ],
)
def test_an_error_is_a_time_out_by_type_or_message_and_a_group_if_each_member_is(error: Exception, kind: str) -> None:
    assert failure(error, ENDED).kind == kind


def test_a_failure_tells_whether_its_messages_or_its_causes_show_a_secret() -> None:
    def caused(text: str, hidden: bool = False) -> BaseException:
        error = ValueError("the order failed")
        error.__context__, error.__suppress_context__ = KeyError(text), hidden
        return error

    for error in (ValueError("sk-secret"), Group(ValueError("a"), KeyError("sk-secret")), caused("Bearer sk-secret")):
        assert failure(error, ENDED, ["sk-secret"]).shows_key is True
    for error in (ValueError("sk"), caused("sk-secret", hidden=True)):
        assert failure(error, ENDED, ["sk-secret"]).shows_key is False


def test_the_message_of_a_failure_names_the_members_of_a_group_and_is_bounded() -> None:
    message = failure(Group(ValueError("a"), Group(KeyError("b"))), ENDED).message
    assert message == "Group: errors (ValueError: a; KeyError: 'b')"
    assert len(failure(ValueError("x" * 10_000), ENDED).message) == callables.MOST_CHARACTERS


def caused_by(cause: Exception) -> Exception:
    error = Pending("no")
    error.__cause__ = cause
    return error


def raised_during(context: BaseException, hidden: bool) -> Exception:
    error = Pending("no")
    error.__context__, error.__suppress_context__ = context, hidden
    return error


def noted(task: str) -> Exception:
    error = Pending("no")
    error.__notes__ = ["x" * 3_000, f"job {task}"]  # type: ignore[attr-defined]
    return error


def circular(task: str) -> Exception:
    context = Pending(task)
    error = raised_during(context, hidden=False)
    context.__context__ = error
    return error


@pytest.mark.parametrize(
    ("raises", "is_exposed"),
    [
        (lambda task: Pending(f"{task} is still running"), True),
        (lambda task: Pending("deadline", task), True),
        (lambda task: Pending(Handle(task)), True),
        (lambda task: Pending(Private(task)), False),
        (lambda task: Group(ValueError("no"), Group(Pending(task))), True),
        (lambda task: caused_by(Group(Pending(Handle(task)))), True),
        (lambda task: raised_during(Pending(task), hidden=False), True),
        (lambda task: raised_during(Pending(task), hidden=True), False),
        (noted, True),
        (circular, True),
        (lambda task: Pending("no"), False),
    ],
)
def test_an_error_exposes_the_job_anywhere_that_its_catcher_can_see(
    raises: Callable[[str], Exception], is_exposed: bool
) -> None:
    error = raises("task_7")
    outcome = with_ids(failure(error, ENDED), exposed_text(error), ["task_6", "task_7"])
    assert (outcome.job, outcome.id_exposed) == ("task_7" if is_exposed else None, is_exposed)


def test_the_text_of_an_error_has_the_type_of_each_error_and_its_attributes() -> None:
    class ContentPolicyViolation(Exception):
        pass

    error = Pending("no")
    error.__cause__ = ContentPolicyViolation("the picture")
    error.code = "E_42"  # type: ignore[attr-defined]
    text = exposed_text(error)
    assert "ContentPolicyViolation: the picture" in text
    assert "E_42" in text


def test_without_an_error_the_outcome_stays() -> None:
    outcome = success(b"horse", ENDED)
    assert with_ids(outcome, None, ["task_7"]) is outcome
