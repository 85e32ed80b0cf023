"""The journal: bounded, counted, without secrets; it ends waits on any event loop."""

from __future__ import annotations

import asyncio

from hobbyhorse.worlds.journal import (
    MOST_JOURNAL_BODY_BYTES,
    Delivery,
    Entry,
    Handover,
    Journal,
    JournalNote,
    decoded,
    next_number,
    resume_numbers,
)

# The bytes of `entry()` with a path of two characters.
BARE = 79
HEADERS = ((b"Authorization", b"Bearer secret"), (b"X-Api-Key", b"secret"), (b"Accept", b"*/*"))


def entry(path: str = "/v1/jobs", dated: float | None = None) -> Entry:
    scope = {"method": "GET", "query_string": b"page=2", "headers": HEADERS}
    note = JournalNote(status=200)
    return Entry(5.0, dated=dated).noted(
        note, scope, provider="acme", role=None, root="http://mock.test/acme", path=path
    )


def test_the_newest_exchanges_are_kept_and_all_are_counted() -> None:
    journal = Journal(most=2)
    for path in ("/a", "/b", "/c"):
        journal.add(entry(path))
    assert ([one.path for one in journal], len(journal), journal.total) == (["/b", "/c"], 2, 3)
    journal.clear()
    assert (list(journal), journal.total) == ([], 0)


def test_headers_are_shown_in_lower_case_and_without_secrets() -> None:
    shown = entry().exchange()
    assert shown.headers == (("authorization", "[redacted]"), ("x-api-key", "[redacted]"), ("accept", "*/*"))
    assert "secret" not in repr(shown)
    assert shown.raw_headers == HEADERS
    assert [*decoded(((b"X-\xe4", b"\xe4"),))] == [("x-\xe4", "\xe4")]


def test_an_exchange_has_the_url_with_its_path_encoded() -> None:
    shown = entry("/v1/a job?").exchange()
    assert shown.url == "http://mock.test/acme/v1/a%20job%3F?page=2"
    assert (shown.path, shown.query, shown.moment) == ("/v1/a job?", "page=2", 5.0)


def test_a_response_is_whole_once_handed_over_unless_its_client_left() -> None:
    handover = Handover(5.0)
    assert not handover.whole
    handover.begin(((b"a", b"b"),), 3)
    assert not handover.whole
    handover.done(6.0)
    assert handover.delivery == Delivery(((b"a", b"b"),), 3, 6.0)
    assert handover.whole
    handover.lost()
    assert handover.delivery == Delivery(((b"a", b"b"),), 3)
    assert not handover.whole


def test_an_exchange_is_frozen_and_read_anew_after_its_delivery() -> None:
    noted = entry()
    before = noted.exchange()
    assert noted.exchange() is before
    noted.begin(((b"A", b"b"),), 3)
    noted.done(6.0)
    after = noted.exchange()
    assert (before.whole, before.answered, before.size, before.answer_headers) == (False, None, 0, ())
    assert (after.whole, after.answered, after.size, after.answer_headers) == (True, 6.0, 3, (("a", "b"),))
    assert noted.exchange() is after


def test_long_bodies_are_cut() -> None:
    long = bytes(MOST_JOURNAL_BODY_BYTES + 1)
    scope = {"method": "POST", "query_string": b"", "headers": ()}
    noted = Entry(5.0).noted(JournalNote(body=long), scope, provider=None, role=None, root="", path="/", body=long)
    assert len(noted.exchange().body) == len(noted.exchange().answer) == MOST_JOURNAL_BODY_BYTES
    assert noted.exchange().query == ""


def test_a_client_with_another_clock_sees_the_date_of_its_own() -> None:
    assert entry(dated=5.9).exchange().answer_headers == ()
    dated = entry(dated=60.0).exchange()
    assert dated.answer_headers == (("date", "Thu, 01 Jan 1970 00:01:00 GMT"),)


def test_requests_are_numbered_in_order_of_arrival() -> None:
    first, second = Handover(5.0), Handover(4.0)
    assert first.number < second.number


def test_a_wait_ends_with_the_last_exchange_that_it_needs_and_matches_each_once() -> None:
    async def main() -> None:
        journal, matched = Journal(), list[str]()

        def wanted(one: Entry) -> bool:
            matched.append(one.path)
            return one.path == "/a"

        for path in ("/a", "/b"):
            journal.add(entry(path))
        waiting = asyncio.ensure_future(journal.until(3, wanted))
        for path in ("/a", "/b"):
            await asyncio.sleep(0)
            assert not waiting.done()
            # A wait may belong to another event loop than the server.
            await asyncio.to_thread(journal.add, entry(path))
        await asyncio.to_thread(journal.add, entry("/a"))
        await asyncio.wait_for(waiting, 5)
        assert matched == ["/a", "/b", "/a", "/b", "/a"]
        await asyncio.wait_for(journal.until(3, wanted), 5)
        cancelled = asyncio.ensure_future(journal.until(1, lambda one: one.path == "/c"))
        await asyncio.sleep(0)
        assert (journal.waits, journal.awaited) == (1, True)
        journal.add(entry("/c"))
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert (journal.total, journal.waits, journal.awaited) == (6, 0, False)

    asyncio.run(main())


def test_a_wait_counts_no_exchange_that_the_journal_has_dropped() -> None:
    async def main() -> None:
        journal = Journal(most=3)
        waiting = asyncio.ensure_future(journal.until(2, lambda one: one.path == "/a"))
        await asyncio.sleep(0)
        for path in ("/a", "/b", "/b", "/b", "/a"):
            journal.add(entry(path))
        journal.clear()
        journal.add(entry("/a"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        journal.add(entry("/a"))
        await asyncio.wait_for(waiting, 5)

    asyncio.run(main())


def test_exchanges_without_a_key_have_a_part_of_the_journal() -> None:
    journal = Journal(most=40)
    journal.add(entry("/own"))
    assert [journal.add_keyless(entry(f"/{number}")) for number in range(3)] == [True, True, False]
    assert [one.path for one in journal] == ["/own", "/0", "/1"]
    assert journal.total == 3
    for _ in range(39):
        journal.add(entry("/own"))
    assert [journal.add_keyless(entry("/new")) for _ in range(3)] == [True, True, False]
    journal.clear()
    assert [journal.add_keyless(entry("/new")) for _ in range(3)] == [True, True, False]
    assert Journal(most=1).add_keyless(entry("/new"))


def test_a_journal_has_a_bound_in_bytes() -> None:
    journal = Journal(most_bytes=250 + 2 * BARE + BARE)
    for number in range(5):
        noted = entry(f"/{number}")
        noted.body, noted.note = b"x" * 60, JournalNote(status=200, body=b"y" * 40)
        journal.add(noted)
    assert ([one.path for one in journal], journal.total) == (["/3", "/4"], 5)
    journal.add(entry("/small"))
    assert [one.path for one in journal] == ["/3", "/4", "/small"]
    journal.clear()
    for number in range(2):
        noted = entry(f"/{number}")
        noted.body = b"x" * 120
        journal.add(noted)
    assert len(journal) == 2, "a cleared journal has its whole bound"


def test_a_journal_may_have_exactly_as_many_bytes_as_its_bound() -> None:
    for most_bytes, kept in ((200, ["/0", "/1"]), (199, ["/1"])):
        journal = Journal(most_bytes=most_bytes + 2 * BARE)
        for number in range(2):
            noted = entry(f"/{number}")
            noted.body, noted.note = b"x" * 60, JournalNote(status=200, body=b"y" * 40)
            journal.add(noted)
        assert [one.path for one in journal] == kept


def test_every_part_of_an_exchange_counts() -> None:
    for part in ("headers", "root", "path", "query", "body", "answer", "notes"):
        journal = Journal(most_bytes=10_000)
        for number in range(3):
            noted, long = entry("/0"), "x" * 4_000
            if part == "headers":
                noted.headers = [(b"x-long", f"{number}{long}".encode())]
            elif part in ("query", "body"):
                setattr(noted, part, long.encode())
            elif part in ("root", "path"):
                setattr(noted, part, long)
            else:
                noted.note = JournalNote(body=long.encode()) if part == "answer" else JournalNote(notes=(long,))
            journal.add(noted)
        assert (len(journal), journal.kept_bytes // 1_000) == (2, 8), part
        journal.load()
        journal.add(entry("/0"))
        assert len(journal) == 3


def test_equal_headers_of_a_connection_count_for_each_exchange() -> None:
    journal, shared = Journal(most_bytes=10_000), [(b"x-long", b"x" * 4_000)]
    for _ in range(3):
        noted = entry()
        noted.headers = shared
        journal.add(noted)
    assert len(journal) == 2


def test_the_newest_exchanges_come_in_pages_newest_first() -> None:
    journal = Journal(most=5)
    for number in range(8):
        journal.add(entry(f"/{number}"))
    found, more = journal.newest(2)
    assert ([(position, one.path) for position, one in found], more) == ([(7, "/7"), (6, "/6")], True)
    found, more = journal.newest(3, before=6)
    assert ([position for position, _ in found], more) == ([5, 4, 3], False)
    found, more = journal.newest(1, wanted=lambda one: one.path in ("/4", "/5"))
    assert ([position for position, _ in found], more) == ([5], True)
    assert [one.path for one in journal.of(lambda one: one.path != "/6", 2)] == ["/5", "/7"]
    assert len(journal.of(lambda one: False, 2)) == 0


def test_a_selection_of_a_journal_leaves_the_lines_of_its_entries() -> None:
    journal = Journal()
    for path in ("/a", "/b", "/c"):
        journal.add(entry(path))
    selection = journal.of(lambda one: one.path != "/a", most=9)
    assert len(selection) == 2
    assert [one.line for one in journal._entries] == [0, 1, 2]


def test_earlier_entries_are_read_when_somebody_reads_the_journal() -> None:
    journal, reads = Journal(most=3), list[int]()

    def older() -> list[Entry]:
        reads.append(1)
        return [entry("/1"), entry("/2")]

    journal.restore(2, older)
    journal.add(entry("/3"))
    journal.add(entry("/4"))
    assert (journal.total, reads) == (4, [])
    assert [(position, one.path) for position, one in journal.newest(9)[0]] == [(3, "/4"), (2, "/3"), (1, "/2")]
    assert ([one.path for one in journal], len(journal), reads) == (["/2", "/3", "/4"], 3, [1])
    journal.restore(0, older)
    journal.clear()
    assert (list(journal), reads) == ([], [1])


def test_numbers_go_on_after_those_of_an_earlier_process() -> None:
    before = next_number()
    resume_numbers(before + 1_000)
    assert next_number() == before + 1_001
    resume_numbers(5)
    assert next_number() > before + 1_001
