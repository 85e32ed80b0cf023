"""Servers that share no code with ours, each with one defect: the suite finds it, and has no finding for their twins.

The twins without a defect are run in full by `test_broken_servers`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from werkzeug import Request

from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from tests.broken_servers import films, independent
from tests.broken_servers.bending import KEY, OTHER, Time, run_suite
from tests.broken_servers.independent import Fake, HiAPI, Vtrix, Work
from tests.broken_servers.mutants import CALLBACK, MEDIA, NEGATIVE
from tests.conftest import CONTRACTS

# More than the suite waits for a silent link here, in real seconds.
SILENCE = 5.0


def broken_rules(kind: type[Fake], *probes: str, patience: float | None = None, **more: Any) -> dict[str, list[str]]:
    """Run some probes on a server, and return the findings by rule."""
    time = Time()
    fake = kind(frozenset({KEY, OTHER}), films.good(), DEFAULT_SECRET, time.now, time.sleep)
    for name, value in more.items():
        setattr(fake, name, value)
    contract = next(one for one in CONTRACTS if one.key == kind.prefix.strip("/"))
    with independent.serving(fake) as url:
        result = run_suite(contract, contract.models[0], url, time, names=probes, patience=patience)
    assert result.unjudged is None
    return {one.rule.id: [breach.message for breach in one.breaches] for one in result.verdicts if one.breaches}


# Silence


@contextmanager
def file_server(manner: str, film: bytes, elsewhere: list[str] | None = None) -> Iterator[str]:
    """Serve a file over raw sockets: not at all, not to its end, or by a redirect to the last address of a list."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def respond(connection: socket.socket) -> None:
        with connection:
            request = connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\naccept-ranges: bytes\r\nconnection: close\r\n"
            if manner == "never answers":
                over.wait(SILENCE)
            elif manner == "is shorter than its length":
                connection.sendall(head + b"content-length: %d\r\n\r\n" % (len(film) + 1) + film)
            elif manner == "closes early":
                connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n5\r\nabc")
            elif elsewhere is not None:
                found = f"HTTP/1.1 302 Found\r\nlocation: {elsewhere[-1]}\r\ncontent-length: 0\r\n"
                connection.sendall(f"{found}connection: close\r\n\r\n".encode())
            assert request

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=respond, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()


class Elsewhere(Vtrix):
    """Keeps its files on another server."""

    files = ""

    def data(self, work: Work) -> Any:
        said = super().data(work)
        for one in said.get("output", []):
            one["content"][0]["url"] = self.files or one["content"][0]["url"]
        return said


@pytest.mark.parametrize(
    "manner", ["never answers", "closes without a word", "closes early", "is shorter than its length"]
)
def test_a_file_that_does_not_arrive_is_a_finding(manner: str) -> None:
    with file_server(manner, films.good()) as url:
        found = broken_rules(Elsewhere, *MEDIA, patience=1.0, files=f"{url}/film.mp4")
    assert set(found) == {"MED-12"}


def test_a_file_behind_a_redirect_is_no_finding() -> None:
    there: list[str] = []

    class Redirecting(Elsewhere):
        def data(self, work: Work) -> Any:
            there.append(f"{self.url}/files/{work.id}.mp4")
            return super().data(work)

    with file_server("redirects", films.good(), there) as url:
        assert broken_rules(Redirecting, *MEDIA, files=f"{url}/film.mp4") == {}
    assert there


# Documented facts beside assumed ones


class WithoutPictures(Vtrix):
    def sound(self, body: dict[str, Any]) -> bool:
        inputs = body.get("input")
        if isinstance(inputs, dict) and "media" not in inputs:
            media = [{"type": "first_frame", "url": "https://example.com/a.jpg"}]
            return super().sound(body | {"input": inputs | {"media": media}})
        return super().sound(body)


def test_a_missing_required_member_is_a_finding_although_its_refusal_is_assumed() -> None:
    assert "NEG-01" in broken_rules(WithoutPictures, "job", "negative:required*:/input/media")


class Longer(Vtrix):
    def sound(self, body: dict[str, Any]) -> bool:
        how = body.get("parameters")
        if isinstance(how, dict) and how.get("duration") == 16:
            return super().sound(body | {"parameters": how | {"duration": 15}})
        return super().sound(body)


def test_an_exceeded_bound_is_a_finding_although_its_refusal_is_assumed() -> None:
    assert "NEG-01" in broken_rules(Longer, "job", "negative:maximum*:/parameters/duration")


class Waiting(Vtrix):
    def data(self, work: Work) -> Any:
        said = super().data(work)
        return said | {"status": "waiting"} if said["status"] == "in_progress" and work.polls < 2 else said


def test_an_undocumented_stage_is_a_finding() -> None:
    assert "SHA-01" in broken_rules(Waiting, "job")


def test_a_callback_that_is_never_repeated_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(independent, "TRIES", 1)
    assert set(broken_rules(HiAPI, *CALLBACK)) == {"NTF-04"}


# Near misses


class Lenient(HiAPI):
    """Repairs the values that are almost valid."""

    def sound(self, body: dict[str, Any]) -> bool:
        inputs = body.get("input")
        if not isinstance(inputs, dict):
            return False
        seconds, pictures = inputs.get("duration", 5), inputs.get("image_urls")
        if isinstance(seconds, str) and seconds.isdecimal():
            inputs = inputs | {"duration": int(seconds)}
        if isinstance(pictures, list) and len(pictures) > 1:
            inputs = inputs | {"image_urls": pictures[:1]}
        if isinstance(inputs.get("resolution"), str):
            inputs = inputs | {"resolution": inputs["resolution"].lower()}
        return super().sound(body | {"input": inputs})


def test_a_server_that_repairs_near_misses_is_found_by_each_of_them() -> None:
    found = broken_rules(Lenient, "job", "negative:*")
    said = "\n".join(found["NEG-01"])
    for words in ('duration = "3"', 'resolution = "720P"', "negative:maxItems"):
        assert words in said


def test_a_server_that_refuses_them_has_no_finding() -> None:
    assert broken_rules(HiAPI, "job", "negative:*", *NEGATIVE) == {}


# Keys


class OpenDoor(HiAPI):
    """Checks the key only for tasks that do not exist, and for submissions."""

    def owner(self, request: Request) -> str:
        job = request.path.rpartition("/")[2]
        return self.works[job].owner if job in self.works else super().owner(request)


def test_a_key_that_is_checked_only_for_unknown_jobs_is_a_finding() -> None:
    assert broken_rules(OpenDoor, "identity:unknown", "auth:status") == {}
    assert {"AUT-01", "AUT-02"} <= set(broken_rules(OpenDoor, "job", "auth:job"))


# Echoes and wholes


class FirstPage(HiAPI):
    def all_of(self, request: Request, owner: str) -> Any:
        said = super().all_of(request, owner)
        return said | {"data": said["data"] | {"page": 1}}


def test_a_page_with_another_number_is_a_finding() -> None:
    assert set(broken_rules(FirstPage, "machine", "identity:pages")) == {"SHA-05"}


class WithError(Vtrix):
    def data(self, work: Work) -> Any:
        said = super().data(work)
        return said | {"error": {"code": "1", "message": "no"}} if said["status"] == "completed" else said


def test_an_error_beside_a_success_is_a_finding() -> None:
    assert set(broken_rules(WithError, "job")) == {"LIF-07"}


class Thumbnail(Vtrix):
    def data(self, work: Work) -> Any:
        said = super().data(work)
        early = [{"content": [{"type": "image", "jobId": "0385dc79-5ff8-4d82-bcb6-1e7a90c4d2f3"}]}]
        return said if said["status"] == "completed" else said | {"output": early}


def test_an_output_before_the_end_is_a_finding() -> None:
    assert set(broken_rules(Thumbnail, "job")) == {"LIF-07"}


class Failing(Vtrix):
    """Fails to make a video of a picture that cannot be had."""

    reason: ClassVar[dict[str, Any]] = {}

    def data(self, work: Work) -> Any:
        said = super().data(work)
        picture = work.body["input"]["media"][0]["url"]
        if said["status"] != "completed" or ".invalid" not in picture:
            return said
        less = {name: value for name, value in said.items() if name not in ("output", "usage", "metadata", "progress")}
        return less | {"status": "failed"} | self.reason


def test_the_reason_of_a_failure_is_judged() -> None:
    told = {"error": {"code": "002014001", "message": "Video generation failed"}}
    assert broken_rules(Failing, "job", "job:failing", reason=told) == {}
    assert set(broken_rules(Failing, "job", "job:failing", reason=told | {"output": [{"a": 1}]})) == {"LIF-07"}
