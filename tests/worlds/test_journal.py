"""The journal: bounded, counted, without secrets; it wakes its waiters on any event loop."""

from __future__ import annotations

import asyncio

from hobbyhorse.worlds.journal import Exchange, Handover, Journal, decoded


def exchange(path: str = "/v1/jobs", **more: object) -> Exchange:
    headers = ((b"Authorization", b"Bearer secret"), (b"X-Api-Key", b"secret"), (b"Accept", b"*/*"))
    values: dict[str, object] = {
        **dict.fromkeys(("provider", "role", "situation", "job")),
        **{"method": "GET", "path": path, "raw_query": b"page=2", "raw_headers": headers, "body": b"", "status": 200},
        **{"answer": b"", "root": "http://mock.test/acme", "handover": Handover(5.0), **more},
    }
    return Exchange(**values)  # type: ignore[arg-type]


def test_the_newest_exchanges_are_kept_and_all_are_counted() -> None:
    journal = Journal(most=2)
    for path in ("/a", "/b", "/c"):
        journal.add(exchange(path))
    assert ([one.path for one in journal], len(journal), journal.total) == (["/b", "/c"], 2, 3)
    journal.clear()
    assert (list(journal), journal.total) == ([], 0)


def test_headers_are_shown_in_lower_case_and_without_secrets() -> None:
    shown = exchange().headers
    assert shown == [("authorization", "[redacted]"), ("x-api-key", "[redacted]"), ("accept", "*/*")]
    assert [*decoded(((b"X-\xe4", b"\xe4"),))] == [("x-\xe4", "\xe4")]
    assert (exchange().query, exchange().moment) == ("page=2", 5.0)


def test_a_response_is_whole_once_handed_over_unless_its_client_left() -> None:
    handover = Handover(5.0)
    assert not handover.whole
    handover.done(6.0)
    assert (handover.whole, handover.answered) == (True, 6.0)
    handover.lost()
    assert not handover.whole


def test_requests_are_numbered_in_order_of_arrival() -> None:
    first, second = Handover(5.0), Handover(4.0)
    assert first.number < second.number


def test_a_waiter_wakes_with_the_next_exchange_and_not_with_an_earlier_one() -> None:
    async def main() -> None:
        journal = Journal()
        journal.add(exchange())
        waiter = asyncio.ensure_future(journal.changed())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiter.done()
        await asyncio.to_thread(journal.add, exchange())
        await asyncio.wait_for(waiter, 5)
        cancelled = asyncio.ensure_future(journal.changed())
        await asyncio.sleep(0)
        journal.add(exchange())
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert journal.total == 3

    asyncio.run(main())
