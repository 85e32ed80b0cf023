"""The rules about the lifecycle, on hand-written traces: kept, broken, not observed, and only assumed."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rules.lifecycle import Sighting, fits, listed_stages
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.lifecycle import Graph, Stage
from hobbyhorse.contract.values import Contract
from tests import specimen
from tests.conformance.server.rules.test_shape import (
    HTML,
    a_job,
    assuming,
    broken,
    changed,
    home,
    place,
    running,
    staged,
    verdict,
    word,
)
from tests.conftest import contracts_that
from tests.judging import family
from tests.tracing import START, Teller


def bound(name: str) -> pytest.MarkDecorator:
    return contracts_that(lambda contract: name in contract.operations["status"].bindings)


MOVES = family("LIF")

several = contracts_that(lambda contract: sum(not stage.terminal for stage in contract.graph) > 1)
told_failures = contracts_that(lambda contract: "error_code" in contract.operations["status"].bindings)
two_steps = contracts_that(lambda contract: "result" in contract.operations)
dated = bound("finished_at")
shows_video = bound("video_url")
counts = bound("progress")
queues = bound("queue_position")


def ends(contract: Contract) -> list[str]:
    """Return the situations of the status operation that show the end of a job."""
    found = contract.operations["status"].situations.values()
    return [one.name for one in found if one.stages and all(contract.graph[stage].terminal for stage in one.stages)]


def way(contract: Contract) -> list[str]:
    """Return the situations of the status operation that a successful job passes through."""
    found = contract.operations["status"].situations.values()
    return [
        next(one.name for one in found if stage in one.stages) for stage in contract.graph.path(contract.graph.initial)
    ]


def polls(contract: Contract, *situations: str, **how: Any) -> Teller:
    """Add consecutive polls."""
    told = Teller(contract)
    for situation in situations:
        told.status(situation, job=a_job(contract), **how)
    return told


def at(told: Teller, situation: str, sent: float, answered: float, **how: Any) -> None:
    """Add a slow poll."""
    told.now = START + sent
    told.status(situation, job=a_job(told.contract), answered=START + answered, probe="job:concurrent", **how)


# LIF-01


def test_every_path_forward_is_legal_with_stages_missed_or_repeated(contract: Contract) -> None:
    forward = way(contract)
    for length in range(2, len(forward) + 1):
        for seen in itertools.combinations(forward, length):
            assert broken(polls(contract, *(name for name in seen for _ in range(2)))) == {}
    assert word("LIF-01", polls(contract, running(contract), running(contract))) == PASSED


def test_a_single_read_of_a_job_shows_no_move(contract: Contract) -> None:
    assert word("LIF-01", polls(contract, running(contract))) == NOT_OBSERVED
    assert word("LIF-01", polls(contract, ends(contract)[0], ends(contract)[0])) == NOT_OBSERVED


@several
def test_a_job_that_goes_back_is_reported(contract: Contract) -> None:
    first, second = way(contract)[:2]
    told = polls(contract, second, first, second)
    found = verdict("LIF-01", told)
    assert found.verdict == BROKEN
    assert len(found.breaches) == 1
    stage = next(iter(contract.operations["status"].situations[second].stages))
    # Whichever stages may follow which: none of them is before an earlier one.
    assert word("LIF-01", told, assuming(contract, f"lifecycle.json#/stages/{stage}/next")) == BROKEN
    assert word("LIF-01", told, assuming(contract, home(contract, "status", second))) == LESSON
    assert word("LIF-01", told, assuming(contract, f"lifecycle.json#/stages/{stage}/lasts")) == BROKEN


@several
def test_two_jobs_are_judged_independently(contract: Contract) -> None:
    first, second = way(contract)[:2]
    told = polls(contract, second)
    told.status(first, job=a_job(contract, 1)).status(second, job=a_job(contract, 1))
    assert word("LIF-01", told) == PASSED


@several
def test_a_request_sent_before_the_response_may_show_the_earlier_state(contract: Contract) -> None:
    first, second = way(contract)[:2]
    told = Teller(contract)
    at(told, second, 0.0, 1.0)
    at(told, first, 0.5, 2.0)
    assert word("LIF-01", told) == NOT_OBSERVED
    at(told, first, 2.5, 3.0)
    assert word("LIF-01", told) == BROKEN


@several
def test_the_order_of_the_trace_does_not_matter(contract: Contract) -> None:
    first, second = way(contract)[:2]
    told = Teller(contract)
    at(told, second, 5.0, 6.0)
    at(told, first, 0.0, 1.0)
    assert word("LIF-01", told) == PASSED


@several
def test_responses_to_other_accounts_show_no_stage(contract: Contract) -> None:
    first, second = way(contract)[:2]
    told = polls(contract, second).status(first, job=a_job(contract), probe="auth:none")
    told.status(first, job=a_job(contract), probe="identity:foreign")
    assert word("LIF-01", told) == NOT_OBSERVED


# LIF-02


def test_an_end_is_final(contract: Contract) -> None:
    for end in ends(contract):
        assert word("LIF-02", polls(contract, running(contract), end, end, end)) == PASSED
        assert word("LIF-02", polls(contract, running(contract), end)) == NOT_OBSERVED


def test_an_end_that_changes_later_is_reported(contract: Contract) -> None:
    for first, then in itertools.permutations([*ends(contract), running(contract)], 2):
        if first == running(contract):
            continue
        told = polls(contract, first, then)
        assert word("LIF-02", told) == BROKEN
        (stage, *_) = sorted(contract.operations["status"].situations[first].stages)
        assert word("LIF-02", told, assuming(contract, f"lifecycle.json#/stages/{stage}")) == LESSON
        assert word("LIF-01", told) == NOT_OBSERVED


@two_steps
def test_a_word_that_may_mean_two_ends_is_either(contract: Contract) -> None:
    both = next(one for one in ends(contract) if len(contract.operations["status"].situations[one].stages) > 1)
    job = a_job(contract)
    for end in ("success", "failure"):
        told = polls(contract, both).result(staged(contract, "result", end), job=job).status(both, job=job)
        assert broken(told) == {}
        assert word("LIF-02", told) == PASSED
    told = polls(contract, both).result(staged(contract, "result", "running"), job=job)
    assert word("LIF-02", told) == BROKEN


@two_steps
def test_two_ends_under_one_word_are_two_ends(contract: Contract) -> None:
    job = a_job(contract)
    good, bad = (staged(contract, "result", kind) for kind in ("success", "failure"))
    told = Teller(contract).result(good, job=job).result(bad, job=job)
    assert word("LIF-02", told) == BROKEN


def test_the_address_of_the_video_may_be_another_one(contract: Contract) -> None:
    role = "result" if "result" in contract.operations else "status"
    told, job = Teller(contract), a_job(contract)
    for number in range(3):
        told.video = f"http://127.0.0.1:8001/media/{number}.mp4"
        told.call(role, staged(contract, role, "success"), job)
    assert word("LIF-02", told) == PASSED


@told_failures
def test_the_words_of_an_error_stay(contract: Contract) -> None:
    failed = staged(contract, "status", "failure")
    other = changed(contract, "status", failed, place(contract, "status", "error_code"), "ANOTHER")
    told = polls(contract, failed).status(failed, job=a_job(contract), answer=other)
    assert word("LIF-02", told) == BROKEN
    assert word("LIF-02", told, assuming(contract, "lifecycle.json#/operations/status/bindings/error_code")) == LESSON


@told_failures
def test_a_number_in_the_words_of_an_error_may_change(contract: Contract) -> None:
    failed, pointer = staged(contract, "status", "failure"), place(contract, "status", "error_message")
    texts = [f"no video (trace {number})" for number in range(3)]
    told = Teller(contract)
    for text in texts:
        told.status(failed, job=a_job(contract), answer=changed(contract, "status", failed, pointer, text))
    assert word("LIF-02", told) == PASSED
    told.status(failed, job=a_job(contract), answer=changed(contract, "status", failed, pointer, "the dog ate it"))
    assert word("LIF-02", told) == BROKEN


def test_a_refusal_after_the_end_is_no_stage(contract: Contract) -> None:
    told = polls(contract, ends(contract)[0], "unknown_job", "rate_limited")
    assert word("LIF-02", told) == NOT_OBSERVED


# LIF-03


def progressing(contract: Contract, name: str, *values: Any) -> Teller:
    told = Teller(contract)
    found = contract.operations["status"].situations
    pointer = place(contract, "status", name)
    situation = next(one for one in found if found[one].stages and name in _live(contract, one))
    for value in values:
        told.status(situation, job=a_job(contract), answer=changed(contract, "status", situation, pointer, value))
    return told


def _live(contract: Contract, situation: str) -> set[str]:
    return {slot.name for slot in contract.operations["status"].situations[situation].template.slots}


@counts
def test_progress_goes_from_0_to_1(contract: Contract) -> None:
    assert word("LIF-03", progressing(contract, "progress", 0, 0.25, 0.25, 1)) == PASSED
    for values in ((0.5, 0.25), (1.5,), (-0.1,), (40,)):
        told = progressing(contract, "progress", *values)
        assert word("LIF-03", told) == BROKEN
        assert word("LIF-03", told, assuming(contract, "lifecycle.json#/operations/status/bindings/progress")) == LESSON
    odds: list[Any] = [None, "half", True, []]
    for odd in odds:
        assert word("LIF-03", progressing(contract, "progress", odd)) == NOT_OBSERVED


@queues
def test_a_queue_position_is_an_integer(contract: Contract) -> None:
    assert word("LIF-03", progressing(contract, "queue_position", 3, 4, 0)) == PASSED
    assert word("LIF-03", progressing(contract, "queue_position", -1)) == BROKEN
    assert word("LIF-03", progressing(contract, "queue_position", 1.5)) == BROKEN


@queues
def test_only_a_job_that_waits_has_a_queue_position(contract: Contract) -> None:
    pointer = place(contract, "status", "queue_position")
    for situation in way(contract)[1:]:
        for value, expected in ((0, BROKEN), (2, BROKEN), (None, NOT_OBSERVED)):
            text = changed(contract, "status", situation, pointer, value)
            told = Teller(contract).status(situation, job=a_job(contract), answer=text)
            assert word("LIF-03", told) == expected


# LIF-04


@dated
def test_moments_follow_one_another(contract: Contract) -> None:
    done = staged(contract, "status", "success")
    assert word("LIF-04", polls(contract, done)) == PASSED
    early: Any = "2025-01-01T00:00:00Z" if isinstance(_said(contract, done), str) else START - 86_400 * 365
    pointer = place(contract, "status", "finished_at")
    told = polls(contract, done, answer=changed(contract, "status", done, pointer, early))
    found = verdict("LIF-04", told)
    assert found.verdict == BROKEN
    assert "before created_at" in found.breaches[0].message
    example = contract.operations["status"].situations[done].example_at
    assert word("LIF-04", told, assuming(contract, example)) == LESSON
    # The wrong order is wrong in any format, and with any status.
    assert word("LIF-04", told, assuming(contract, "lifecycle.json#/operations/status/bindings/finished_at")) == BROKEN
    assert word("LIF-04", told, assuming(contract, home(contract, "status", done))) == BROKEN


def _said(contract: Contract, situation: str) -> Any:
    value: Any = contract.schemas.at(contract.operations["status"].situations[situation].example_at)
    for step in place(contract, "status", "finished_at"):
        value = value[step]
    return value


@dated
def test_milliseconds_are_no_seconds_and_words_no_moments(contract: Contract) -> None:
    done = staged(contract, "status", "success")
    pointer = place(contract, "status", "created_at")
    said = _said(contract, done)
    for wrong in ("yesterday", [1], {}) if isinstance(said, str) else (START * 1000, "yesterday", "2026-01-01"):
        told = polls(contract, done, answer=changed(contract, "status", done, pointer, wrong))
        assert (word("LIF-04", told) == BROKEN) is bool(wrong)


@dated
def test_the_creation_of_the_suites_own_job_is_in_the_time_zone_of_all(contract: Contract) -> None:
    done = staged(contract, "status", "success")
    binding = contract.operations["status"].bindings["created_at"]

    def created(hours: float, **how: Any) -> Teller:
        assert binding.format is not None
        moment = FORMATS[binding.format].write(START + hours * 3_600)
        told = Teller(contract).submit("accepted", a_job(contract), **how)
        text = changed(contract, "status", done, place(contract, "status", "created_at"), moment)
        return told.status(done, job=a_job(contract), answer=text)

    for hours in (-8, 5.5):
        found = verdict("LIF-04", created(hours, probe="job"))
        assert any(f"{abs(hours):.1f} hours away" in breach.message for breach in found.breaches)
        # In recorded traffic the clocks may be anybody's.
        assert "hours away" not in str(verdict("LIF-04", created(hours)).breaches)
    assert "hours away" not in str(verdict("LIF-04", created(0, probe="job")).breaches)


@dated
def test_a_running_job_has_no_end_time(contract: Contract) -> None:
    done = _said(contract, staged(contract, "status", "success"))
    situation = running(contract)
    body = changed(contract, "status", situation, place(contract, "status", "finished_at"), done)
    assert word("LIF-04", polls(contract, situation, answer=body)) == BROKEN
    for nothing in (None, 0):
        body = changed(contract, "status", situation, place(contract, "status", "finished_at"), nothing)
        assert word("LIF-04", polls(contract, situation, answer=body)) != BROKEN


# LIF-05


@shows_video
def test_no_video_before_the_end(contract: Contract) -> None:
    situation = running(contract)
    assert word("LIF-05", polls(contract, situation)) == PASSED
    assert word("LIF-05", polls(contract, *ends(contract)[:1])) == NOT_OBSERVED
    pointer = tuple(one for one in place(contract, "status", "video_url"))
    body = early(contract, situation, pointer)
    told = polls(contract, situation, answer=body)
    assert word("LIF-05", told) == BROKEN
    assert word("LIF-05", told, assuming(contract, "lifecycle.json#/operations/status/bindings/video_url")) == LESSON
    assert word("LIF-05", polls(contract, situation, answer=early(contract, situation, pointer, ""))) == PASSED


def early(contract: Contract, situation: str, pointer: tuple[str, ...], url: str = "http://127.0.0.1/x.mp4") -> bytes:
    """Return a response with a video URL, creating missing lists."""
    value: Any = url
    cut = next((number for number, step in enumerate(pointer) if step.isdigit()), len(pointer))
    for step in reversed(pointer[cut:]):
        value = [value] if step.isdigit() else {step: value, "type": "video"}
    return changed(contract, "status", situation, pointer[:cut], value)


# LIF-06


def test_overlapping_polls_may_be_answered_in_any_order(contract: Contract) -> None:
    told = Teller(contract)
    for number, situation in enumerate(reversed(way(contract))):
        at(told, situation, number / 100, 5.0)
    assert broken(told) == {}
    assert word("LIF-06", told) == (PASSED if len(way(contract)) > 1 else NOT_OBSERVED)


def test_consecutive_polls_do_not_overlap(contract: Contract) -> None:
    assert word("LIF-06", polls(contract, *way(contract))) == NOT_OBSERVED


def test_two_different_ends_in_overlapping_polls_are_reported(contract: Contract) -> None:
    first, then = ends(contract)[:2]
    told = Teller(contract)
    at(told, first, 0.0, 2.0)
    at(told, then, 1.0, 3.0)
    found = verdict("LIF-06", told)
    assert found.verdict == BROKEN
    assert word("LIF-02", told) == NOT_OBSERVED
    assert word("LIF-06", told, assuming(contract, found.breaches[0].places[0])) == LESSON


def test_a_step_back_among_overlapping_polls_is_reported(contract: Contract) -> None:
    told, end = Teller(contract), ends(contract)[0]
    at(told, end, 0.0, 1.0)
    at(told, running(contract), 0.5, 3.0)
    assert word("LIF-06", told) == PASSED
    at(told, running(contract), 1.5, 3.0)
    assert word("LIF-06", told) == BROKEN


STAGES = Graph(
    "a",
    {
        name: Stage(name, kind, tuple(to))
        for name, kind, to in (
            ("a", "pending", "bc"),
            ("b", "running", "d"),
            ("c", "running", "d"),
            ("d", "running", "ef"),
            ("e", "success", ""),
            ("f", "failure", ""),
        )
    },
)


def _sight(sent: float, answered: float, *stages: str) -> Sighting:
    step = Teller.__new__(Teller)
    step.arrived, step.done = sent, answered  # type: ignore[attr-defined]
    return Sighting(step, frozenset(stages))  # type: ignore[arg-type]


def _explained(sightings: list[Sighting]) -> bool:
    """Decide by brute force, over every order and every choice: the definition."""
    edges = {stage.name: stage.next for stage in STAGES}

    def leads(one: str, other: str) -> bool:
        return one == other or any(leads(to, other) for to in edges[one])

    for order in itertools.permutations(sightings):
        if any(later.before(first) for first, later in itertools.combinations(order, 2)):
            continue
        for choice in itertools.product(*(one.stages for one in order)):
            if all(leads(one, other) for one, other in itertools.pairwise(choice)):
                return True
    return False


def test_an_order_is_found_if_and_only_if_there_is_one() -> None:
    chance = Random(7)
    outcomes = []
    for _ in range(1500):
        sightings = []
        for _ in range(chance.randint(1, 5)):
            sent = chance.randint(0, 6)
            stages = chance.sample("abcdef", chance.choice([1, 1, 1, 2]))
            sightings.append(_sight(sent, sent + chance.randint(0, 4), *stages))
        outcomes.append(_explained(sightings))
        assert fits(STAGES, sightings) is outcomes[-1]
    assert 300 < sum(outcomes) < 1200


class Honest:
    """A model server: jobs that move forward, polled concurrently and in turn, with temporary failures."""

    def __init__(self, contract: Contract, chance: Random, liar: bool = False) -> None:
        self.contract, self.chance, self.liar = contract, chance, liar
        self.told = Teller(contract)
        self.roles = [role for role in ("status", "result") if role in contract.operations]

    def run(self) -> Teller:
        for number in range(3):
            self.live(a_job(self.contract, number))
        self.told.exchanges.sort(key=lambda exchange: exchange.arrived)
        return self.told

    def live(self, job: str) -> None:
        graph, chance = self.contract.graph, self.chance
        stages = [graph.initial]
        while graph[stages[-1]].next:
            stages.append(chance.choice(graph[stages[-1]].next))
        begun = START + chance.uniform(0, 5)
        self.told.now = begun
        self.told.submit(job=job, key=job)
        moments = [begun, *sorted(chance.uniform(begun, begun + 30) for _ in stages[1:])]
        for _ in range(chance.randint(1, 15)):
            sent = begun + 0.01 + chance.uniform(0, 50)
            done = sent + chance.choice([0.001, 1, 10])
            looked = chance.uniform(sent, done)
            stage = next(name for name, at in reversed(list(zip(stages, moments, strict=True))) if at <= looked)
            self.told.now = sent
            if chance.random() < 0.2:
                self.told.status(None, job=job, status=chance.choice([0, 429, 500, 503, 504]), **HTML)
                continue
            if self.liar and chance.random() < 0.5:
                stage = chance.choice([one.name for one in graph])
            role = chance.choice(self.roles)
            found = self.contract.operations[role].situations.values()
            self.told.call(role, next(one.name for one in found if stage in one.stages), job, answered=done)


def test_a_server_that_keeps_the_contract_has_no_findings(contract: Contract) -> None:
    seen = set()
    for seed in range(40):
        told = Honest(contract, Random(seed)).run()
        assert broken(told, family("LIF") + family("IDN")) == {}, seed
        seen |= {rule for rule in ("LIF-01", "LIF-02", "LIF-06") if word(rule, told) == PASSED}
    assert seen == {"LIF-01", "LIF-02", "LIF-06"}


def test_a_server_with_random_responses_nearly_always_has_findings(contract: Contract) -> None:
    caught = [broken(Honest(contract, Random(seed), liar=True).run()) for seed in range(50)]
    assert sum("LIF-02" in one or "LIF-06" in one or "LIF-01" in one for one in caught) > 40
    assert {rule for one in caught for rule in one} >= {"LIF-02", "LIF-06"}


@contracts_that(lambda contract: "list" in contract.operations)
def test_a_list_agrees_with_the_end_that_a_poll_has_shown(contract: Contract) -> None:
    listing = contract.operations["list"]
    assert listing.items is not None
    words = listed_stages(contract, listing)
    ended = next(word for word, stages in words.items() if all(contract.graph[one].kind == "success" for one in stages))
    runs = next(word for word, stages in words.items() if all(contract.graph[one].kind == "running" for one in stages))
    example = contract.schemas.at(listing.situations["listed"].example_at)
    item = resolve(example, (*listing.items.at.pointer, "0"))
    item = replaced(item, listing.items.bindings["job"].response[0].pointer, a_job(contract))
    for stage, delay, expected in ((ended, 9, PASSED), (runs, 9, BROKEN), (runs, 0, PASSED)):
        listed = replaced(item, listing.items.bindings["stage"].response[0].pointer, stage)
        told = polls(contract, staged(contract, "status", "success"), staged(contract, "status", "success"))
        text = orjson.dumps(replaced(example, listing.items.at.pointer, [listed]))
        told.wait(delay).call("list", "listed", None, answer=text)
        assert word("LIF-02", told) == expected


def test_the_first_response_shown_again_is_no_move_of_the_job() -> None:
    """The specimen names the stage in the response to a submission, and a repeated key gets this response again."""
    contract = load(specimen.FOLDER)
    job = a_job(contract)

    def lived(*between: str) -> Teller:
        told = Teller(contract).submit(job=job)
        for situation in between:
            told.status(situation, job=job)
        return told.submit("replayed", job=job)

    assert lived().story().submits[-1].stage == "queued"
    for between in ((), ("running",), ("running", "done"), ("failed",)):
        assert broken(lived(*between), MOVES) == {}
    # The first response is evidence as before.
    assert set(broken(lived("done").status("running", job=job), MOVES)) == {"LIF-02"}
    assert word("LIF-02", Teller(contract).status("done", job=job).submit("replayed", job=job)) == NOT_OBSERVED
