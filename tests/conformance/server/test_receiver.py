"""The callback receiver: it refuses the first callback, records all of them, and bounds their size."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from hobbyhorse.conformance.server.receiver import CALLBACK_PATH, ELSEWHERE, MOST_CALLBACK_BYTES, Receiver
from hobbyhorse.conformance.server.session import callback_job_reader
from hobbyhorse.contract.forms.expressions import replaced
from tests.conftest import CONTRACTS


@pytest.fixture
def http_client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def test_only_the_very_first_callback_is_refused(http_client: httpx.Client) -> None:
    with Receiver(lambda headers, body: body.decode()) as receiver:
        statuses = [http_client.post(receiver.url, content=job).status_code for job in (b"a", b"a", b"b")]
    assert statuses == [500, 200, 200]


def test_a_receiver_is_reached_by_its_public_url_if_it_has_one() -> None:
    with Receiver(public_url="https://public.example/hook") as public, Receiver() as local:
        assert public.url == "https://public.example/hook"
        assert local.url.startswith("http://127.0.0.1:")
        assert local.url.endswith(CALLBACK_PATH)


def test_each_callback_has_its_headers_in_lower_case_and_the_moments_of_the_clock(http_client: httpx.Client) -> None:
    moments = iter(range(100, 200))
    with Receiver(now=lambda: float(next(moments))) as receiver:
        http_client.post(receiver.url, content=b"{}", headers={"X-Signature": "Abc"})
        (delivery,) = receiver.deliveries
    assert dict(delivery.headers)["x-signature"] == "Abc"
    assert (delivery.sent, delivery.answered, delivery.body) == (100.0, 101.0, b"{}")


def test_a_body_that_is_announced_as_too_long_is_refused_unread() -> None:
    with Receiver() as receiver:
        parts = urlsplit(receiver.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.putrequest("POST", parts.path)
        connection.putheader("Content-Length", str(MOST_CALLBACK_BYTES + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()
        assert receiver.deliveries == ()


def test_a_length_that_is_not_a_number_counts_as_no_body(http_client: httpx.Client) -> None:
    with Receiver() as receiver:
        parts = urlsplit(receiver.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.putrequest("POST", parts.path)
        connection.putheader("Content-Length", "ten")
        connection.endheaders()
        assert connection.getresponse().status == 500
        connection.close()
        assert [one.body for one in receiver.deliveries] == [b""]


def test_callbacks_are_numbered_by_their_job_and_an_unreadable_one_has_none() -> None:
    contract = next(one for one in CONTRACTS if one.callbacks is not None)
    assert contract.callbacks is not None
    place = next(place for place in contract.callbacks.bindings["job"].request if place.part == "body")
    body = orjson.dumps(replaced({}, place.pointer, "job-1"))
    with Receiver(callback_job_reader(contract)) as receiver, httpx.Client(trust_env=False) as http:
        answers = [http.post(receiver.url, content=body).status_code for _ in range(3)]
        assert http.post(receiver.url, content=b"no JSON").status_code == 200
        assert http.get(receiver.url).status_code == 404
        assert http.put(receiver.url).status_code == 501
        deliveries = receiver.deliveries
    assert answers == [500, 200, 200]
    assert [(one.job, one.number) for one in deliveries] == [("job-1", 1), ("job-1", 2), ("job-1", 3), (None, 1)]
    assert [one.acknowledged for one in deliveries] == [False, True, True, True]


def test_each_order_has_a_url_and_a_refusal_of_its_own(http_client: httpx.Client) -> None:
    with Receiver(lambda headers, body: body.decode()) as receiver:
        urls = [receiver.url_of(str(number), status) for number, status in enumerate((500, 302))]
        statuses = [http_client.post(url, content=b"a").status_code for url in (*urls, *urls)]
        receiver.name("0", "job-0")
        deliveries = receiver.deliveries
    assert statuses == [500, 302, 200, 200]
    # A callback belongs to the job of its URL, if that is known, and to the job in its body otherwise.
    assert [(one.job, one.number) for one in deliveries] == [("job-0", 1), ("a", 1), ("job-0", 2), ("a", 2)]
    assert not any(one.note for one in deliveries)


def test_an_order_may_refuse_several_callbacks(http_client: httpx.Client) -> None:
    with Receiver(lambda headers, body: body.decode()) as receiver:
        url = receiver.url_of("0", 503, 3)
        assert [http_client.post(url, content=b"a").status_code for _ in range(4)] == [503, 503, 503, 200]


def test_a_callback_without_the_query_of_its_url_is_noted(http_client: httpx.Client) -> None:
    with Receiver(lambda headers, body: "a") as receiver, Receiver(public_url="https://public.example/x") as public:
        receiver.url_of("0", 500)
        http_client.post(receiver.url, content=b"a")
        assert [one.note for one in receiver.deliveries] == [ELSEWHERE]
        assert public.url_of("0", 500) == "https://public.example/x"


def test_a_published_picture_is_served_until_it_is_withdrawn(http_client: httpx.Client) -> None:
    with Receiver() as receiver:
        url = receiver.publish("1.png", b"picture")
        found = http_client.get(url)
        assert (found.content, found.headers["content-type"]) == (b"picture", "image/png")
        head = http_client.head(url)
        assert (head.content, head.headers["content-length"]) == (b"", "7")
        receiver.withdraw()
        assert http_client.get(url).status_code == 404
        assert receiver.deliveries == ()


def test_a_picture_may_have_any_name_and_a_query(http_client: httpx.Client) -> None:
    with Receiver() as receiver:
        url = receiver.publish("a café (1)", b"picture", "webp")
        assert url.endswith("/a%20caf%C3%A9%20%281%29")
        found = http_client.get(url + "?X-Amz-Signature=1.2")
        assert (found.content, found.headers["content-type"]) == (b"picture", "image/webp")


def test_a_picture_has_a_path_below_the_public_url() -> None:
    with Receiver(public_url="https://public.example/hook?x=1") as receiver:
        assert receiver.publish("1.png", b"picture") == "https://public.example/hook/1.png"
        assert receiver.picture("/anywhere/1.png?y=2") == (b"picture", "png")
