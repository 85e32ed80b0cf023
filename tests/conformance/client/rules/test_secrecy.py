"""The rules about secrets and URLs, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import secrecy as rules
from hobbyhorse.conformance.rule import SHOULD
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.faults.download import DISPOSITIONS, ELSEWHERE
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.conftest import contracts_that
from tests.judging import messages
from tests.tracing import FOREIGN, HOME, PORT, PRIVATE, Teller

linked = contracts_that(lambda contract: "status_url" in contract.operations["status"].bindings)
KEYED = (("authorization", "Bearer [key]"),)


def done(contract: Contract) -> str:
    return next(stage.name for stage in contract.graph if stage.kind == "success")


def told(contract: Contract, video: str | None = None) -> Teller:
    """Return a trace of a client that has read the success of its job."""
    teller = Teller(contract).submit()
    teller.video = video or teller.video
    role = "result" if "result" in contract.operations else "status"
    return teller.call(role, _success(contract, role))


def _success(contract: Contract, role: str) -> str:
    found = contract.operations[role].situations.values()
    return next(one.name for one in found if done(contract) in one.stages and not one.when)


def test_a_file_fetched_without_credentials_is_fine(contract: Contract) -> None:
    assert messages(rules.no_auth_to_media_host, told(contract).story()) is None
    assert messages(rules.no_auth_to_media_host, told(contract).media().story()) == []


@pytest.mark.parametrize(
    "how",
    [
        {"headers": KEYED},
        {"headers": (("x-api-key", "[redacted]"),)},
        {"headers": (("cookie", "session=1"),)},
        {"headers": (("x-token", "[key]"),)},
        {"url": "http://127.0.0.1:8001/media/video.mp4?key=[key]"},
        {"url": "http://127.0.0.1:8001/media/video.mp4?key=%5Bkey%5D"},
    ],
)
def test_credentials_for_a_file_on_another_host_are_found(contract: Contract, how: dict[str, Any]) -> None:
    assert messages(rules.no_auth_to_media_host, told(contract).media(**how).story()) != []


def test_a_file_on_the_providers_host_may_be_requested_with_the_key(contract: Contract) -> None:
    told_of = told(contract).media(headers=KEYED, url=f"{HOME}/media/video.mp4")
    assert messages(rules.no_auth_to_media_host, told_of.story()) is None


def test_a_cookie_may_go_back_to_the_host_that_set_it(contract: Contract) -> None:
    told_of = told(contract).media(503, answer_headers=(("set-cookie", "edge=1"),))
    assert messages(rules.no_auth_to_media_host, told_of.media(headers=(("cookie", "edge=1"),)).story()) == []


def test_a_key_sent_to_the_target_of_a_redirect_is_found(contract: Contract) -> None:
    assert messages(rules.no_auth_to_foreign_origin, told(contract).media().story()) is None
    teller = (
        Teller(contract)
        .submit()
        .call("status", None, status=307, answer_headers=(("location", f"{FOREIGN}/v1/tasks"),))
    )
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) == []
    teller.call(None, None, url=f"{FOREIGN}/v1/tasks", headers=())
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) == []
    teller.call("status", None, url=f"{FOREIGN}/v1/tasks", headers=KEYED)
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) != []


def test_a_key_sent_to_another_port_of_the_host_breaks_a_recommendation_only(contract: Contract) -> None:
    assert messages(rules.no_auth_to_other_port, told(contract).media().story()) is None
    location = (("location", f"{PORT}/v1/tasks"),)
    teller = Teller(contract).submit().call("status", None, status=307, answer_headers=location)
    assert messages(rules.no_auth_to_other_port, teller.story()) == []
    teller.call(None, None, url=f"{PORT}/v1/tasks", headers=())
    assert messages(rules.no_auth_to_other_port, teller.story()) == []
    teller.call(None, None, url=f"{PORT}/v1/tasks", headers=KEYED)
    assert messages(rules.no_auth_to_other_port, teller.story()) != []
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) is None
    assert rules.no_auth_to_other_port.level == SHOULD


def test_another_host_name_is_no_other_port(contract: Contract) -> None:
    location = (("location", f"{FOREIGN}/v1/tasks"),)
    teller = Teller(contract).submit().call("status", None, status=307, answer_headers=location)
    teller.call(None, None, url=f"{FOREIGN}/v1/tasks", headers=KEYED)
    assert messages(rules.no_auth_to_other_port, teller.story()) is None
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) != []


def test_a_redirect_that_was_not_delivered_shows_nothing(contract: Contract) -> None:
    teller = (
        Teller(contract)
        .submit()
        .call("status", None, status=307, whole=False, answer_headers=(("location", f"{FOREIGN}/v1/tasks"),))
    )
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) is None


@linked
def test_a_key_sent_to_a_foreign_link_is_found(contract: Contract) -> None:
    teller = Teller(contract)
    teller.submit(answer=_linking(contract))
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) == []
    teller.call("status", None, url=f"{FOREIGN}/status", headers=KEYED)
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) != []


def _linking(contract: Contract) -> bytes:
    found = contract.operations["submit"].situations["accepted"]
    return found.template.write({"job": "job-1", "status_url": f"{FOREIGN}/status"}.get)


def test_credentials_of_another_account_are_not_judged(contract: Contract) -> None:
    teller = told(contract).call(None, None, url="https://storage.example/put", headers=(("authorization", "AWS"),))
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) == []
    teller.call(None, None, url="https://storage.example/put", headers=KEYED)
    assert messages(rules.no_auth_to_foreign_origin, teller.story()) != []


@pytest.mark.parametrize(
    "address", [f"{PRIVATE}/v.mp4", "http://10.0.0.1/v.mp4", "http://localhost/v.mp4", "http://169.254.169.254/latest"]
)
def test_a_request_to_a_private_address_is_found(contract: Contract, address: str) -> None:
    assert messages(rules.ssrf_guard, told(contract).story()) is None
    teller = told(contract, address)
    assert messages(rules.ssrf_guard, teller.story()) == []
    assert messages(rules.ssrf_guard, teller.media(url=address).story()) != []


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://files.example/v.mp4"])
def test_a_url_of_another_scheme_counts_as_private(contract: Contract, address: str) -> None:
    assert messages(rules.ssrf_guard, told(contract, address).story()) == []


@pytest.mark.parametrize("address", ["http://[::1", "v.mp4", "//", "http://", "https://cdn.example/v.mp4"])
def test_a_text_that_is_not_a_url_is_not_judged(contract: Contract, address: str) -> None:
    assert messages(rules.ssrf_guard, told(contract, address).story()) is None
    assert messages(rules.no_auth_to_foreign_origin, told(contract, address).story()) is None


def test_a_key_in_a_url_or_body_is_found(contract: Contract) -> None:
    assert messages(rules.no_secret_in_url, Teller(contract).story()) is None
    assert messages(rules.no_secret_in_url, told(contract).story()) == []
    assert messages(rules.no_secret_in_url, told(contract).status(None, url=f"{HOME}/a?key=[key]").story()) != []
    assert messages(rules.no_secret_in_url, Teller(contract).submit(body=b'{"prompt": "[key]"}').story()) != []


def test_a_given_url_with_a_key_may_be_requested(contract: Contract) -> None:
    address = "http://127.0.0.1:8001/video.mp4?signed=[key]"
    assert messages(rules.no_secret_in_url, told(contract, address).media(url=address).story()) == []
    assert messages(rules.no_auth_to_media_host, told(contract, address).media(url=address).story()) == []


def test_a_key_in_the_callers_request_may_be_sent(contract: Contract) -> None:
    teller = Teller(contract, {"prompt": "[key]"}).submit()
    assert messages(rules.no_secret_in_url, teller.story()) is None


def test_a_redirect_to_a_private_host_is_seen_and_must_not_be_followed(contract: Contract) -> None:
    story = told(contract).media(302, answer_headers=(("location", f"{PRIVATE}/latest/meta-data"),))
    assert messages(rules.ssrf_guard, story.story()) == []
    story.media(url=f"{PRIVATE}/latest/meta-data")
    assert messages(rules.ssrf_guard, story.story()) != []


def test_a_redirect_to_another_host_may_be_followed_without_the_key(contract: Contract) -> None:
    story = told(contract).media(302, answer_headers=(("location", f"{FOREIGN}/media/video.mp4"),))
    story.media(url=f"{FOREIGN}/media/video.mp4")
    assert messages(rules.ssrf_guard, story.story()) is None
    assert messages(rules.no_auth_to_media_host, story.story()) == []


def named(contract: Contract, outcome: str = "success", name: str = "parent", **how: Any) -> list[str] | None:
    """Return what SEC-06 says of a client that got a file with a suggested name."""
    header = (("content-disposition", DISPOSITIONS[name]),)
    return messages(rules.own_folder, told(contract).media(answer_headers=header).end(outcome, **how).story())


@pytest.mark.parametrize("name", ["parent", "absolute"])
def test_a_name_in_another_folder_may_be_ignored_shortened_or_refused(contract: Contract, name: str) -> None:
    for saved in ("", "/tmp/x/video.mp4", f"/tmp/x/.._{ELSEWHERE}_video.mp4", f"/tmp/{ELSEWHERE}"):
        assert named(contract, name=name, saved=saved) == []
    assert named(contract, "failed", name, message=f"the name '../{ELSEWHERE}/video.mp4' is refused") == []


@pytest.mark.parametrize(
    "saved", [f"/tmp/x/../{ELSEWHERE}/video.mp4", f"/{ELSEWHERE}/video.mp4", f"..\\{ELSEWHERE}\\v.mp4"]
)
def test_a_video_that_is_saved_in_another_folder_is_found(contract: Contract, saved: str) -> None:
    (found,) = named(contract, saved=saved) or []
    assert "the client saved the video there" in found


@pytest.mark.parametrize(
    "message",
    [
        f"FileNotFoundError: [Errno 2] No such file or directory: '/tmp/x/../{ELSEWHERE}/video.mp4'",
        f"Error: ENOENT: no such file or directory, open '/{ELSEWHERE}/video.mp4'",
        f"PermissionError: [Errno 13] Permission denied: '/{ELSEWHERE}/video.mp4'",
    ],
)
def test_an_attempt_to_write_into_another_folder_is_found(contract: Contract, message: str) -> None:
    (found,) = named(contract, "failed", message=message) or []
    assert "the client tried to write there" in found
    assert named(contract, "success", message=message) == [], "it had another way"


def test_another_name_and_an_unfinished_run_show_nothing_about_the_folder(contract: Contract) -> None:
    assert named(contract, name="long") is None
    assert named(contract, "unfinished") is None
    assert named(contract, by_reference=True) is None


OTHER_KEY = (("authorization", "Bearer [key-2]"),)


def of_case(contract: Contract, **how: Any) -> Trace:
    """Return the trace of a test case whose last request carries another key."""
    return replace(told(contract).status(None, headers=OTHER_KEY).end("failed").trace(), **{"jobs": (), **how})


def test_the_key_of_an_earlier_order_is_found(contract: Contract) -> None:
    own = replace(told(contract).end("success").trace(), jobs=())
    assert messages(rules.key_of_the_order, AnnotatedTrace(contract, own)) == []
    (found,) = messages(rules.key_of_the_order, AnnotatedTrace(contract, of_case(contract))) or []
    assert "carries the key that was given for an earlier order" in found


def test_a_recording_may_show_the_keys_of_several_accounts(contract: Contract) -> None:
    assert messages(rules.key_of_the_order, AnnotatedTrace(contract, of_case(contract, jobs=None))) is None


def test_each_provider_of_a_client_has_a_key(contract: Contract) -> None:
    for trace in (of_case(contract, partner=of_case(contract)), of_case(contract, rank=1)):
        assert messages(rules.key_of_the_order, AnnotatedTrace(contract, trace)) == []


@pytest.mark.parametrize(("shows_key", "expected"), [(None, None), (False, []), (True, 1)])
def test_a_secret_in_an_error_or_in_the_output_is_found(
    contract: Contract, shows_key: bool | None, expected: object
) -> None:
    story = told(contract).end("failed", shows_key=shows_key).story()
    found = messages(rules.no_secret_in_output, story)
    assert (len(found) if found else found) == expected
