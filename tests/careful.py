"""A model of a careful client, which writes its trace step by step under random faults; no server."""

from __future__ import annotations

from random import Random
from typing import Any

from hobbyhorse.conformance.client.reasons import reasons_in
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_results import without
from tests.tracing import Teller

OTHER = "http://127.0.0.1:8000/elsewhere"

NO_ANSWER: dict[str, Any] = {"status": 0, "whole": False, "answered": None}
# Transient failures.
PASSING: list[dict[str, Any]] = [
    NO_ANSWER,
    *({"status": status} for status in (408, 425, 429, 500, 502, 503, 504)),
    *({"status": 200, "answer": body} for body in (b"", b"<html>", b"{}", b"null", b'{"data": null}', b"[[[")),
]
# Downloads that are not the complete video.
SPOILT: list[dict[str, Any]] = [
    {"whole": False},
    {"whole": False, "answered": None, "move": "truncate"},
    {"size": 0, "move": "zero_bytes"},
    {"answer_headers": (("content-type", "text/html"),), "move": "html_page"},
    {"move": "not_video"},
    {"move": "all_zeros"},
]
# Downloads of the complete video.
GOOD: list[dict[str, Any]] = [
    {},
    {"move": "latency"},
    {"answer_headers": (("content-type", "application/octet-stream"),), "move": "wrong_type"},
    {"answer_headers": (("content-type", "video/mp4; codecs=avc1"),), "move": "wrong_type"},
]


class Killed(Exception):
    """The client was killed."""


class Careful:
    """A client that loses no job and believes no incomplete response; with `kills` it may be killed once."""

    def __init__(self, contract: Contract, chance: Random, kills: bool) -> None:
        self.contract = contract
        self.chance = chance
        self.told = Teller(contract).made(sha256="right")
        self.told.drill = "killed" if kills else "once"
        self.kills = kills
        self.job = False  # whether the id is known; it is stored immediately
        self.ordered = False  # whether a submission may have been accepted
        self.carrier = "result" if "result" in contract.operations else "status"
        self.deadline = 0.0
        self.first_end: float | None = None
        self.until: float | None = None

    def run(self) -> Teller:
        """Run the client, across a kill if there is one, and return its trace."""
        try:
            self._live()
        except Killed:
            base = self.told.base
            if self._one_of(True, False):
                base, self.told.drill = OTHER, "moved"
            self.told.wait(self._one_of(1, 100, 100_000)).restart(base)
            self._live()
        return self.told

    def _one_of(self, *choices: Any) -> Any:
        return self.chance.choice(choices)

    def _pause(self, *seconds: float) -> None:
        self.told.wait(self._one_of(*seconds))
        if self.kills and self._one_of(*([False] * 9), True):
            self.kills = False
            raise Killed

    def _end(self, kind: str, **how: Any) -> None:
        named = self._one_of(True, False)
        if not named and kind != "success":
            kind = self._one_of("failed", "error")
        exposed = self.job if named else self._one_of(self.job, None)
        reasons = reasons_in(self.told.story()) if kind == "failed" else None
        self.told.end(kind, told=named, id_exposed=exposed, reasons=reasons, **how)

    def _live(self) -> None:
        if not self.job and not self._order():
            return
        self.deadline = self.told.now + self.contract.polling.longest_wait
        if self._await() and (address := self._address()):
            self._fetch(address)

    def _order(self) -> bool:
        replays = self.contract.idempotency.mode == "replay"
        for _ in range(4):
            if self.ordered and not replays:
                break
            fate = self._one_of("accepted", "accepted", "refused", "busy", "unknown")
            if fate == "refused":
                self.told.submit(None, status=422, job=None)
                break
            if fate == "accepted":
                self.told.submit()
                self.job = self.ordered = True
                self._pause(0)
                return True
            if fate == "busy":
                self.told.submit(None, status=self._one_of(429, 503), job=None)
            else:
                self.ordered = True
                self.told.submit(
                    None, **self._one_of(*(how for how in PASSING if how["status"] not in (425, 429, 503)))
                )
            self._pause(1, 5, 60)
        self._end("error")
        return False

    def _await(self) -> bool:  # noqa: C901
        """Poll until the job has ended; return whether it may have a video."""
        patience = self.contract.polling.longest_wait
        situations = self.contract.operations["status"].situations
        stages = [name for name, one in situations.items() if one.stages]
        early = [
            name for name in stages if not any(self.contract.graph[one].terminal for one in situations[name].stages)
        ]
        refusals = 0
        while self.told.now < self.deadline:
            move = self._one_of(*["early"] * 4, "stage", "passing", "word", "late", "refused", "callback")
            if move == "early":
                self.told.status(self._one_of(*early))
            elif move == "stage":
                name = self._one_of(*stages)
                kinds = {self.contract.graph[stage].kind for stage in situations[name].stages}
                if "success" in kinds and self.carrier == "status":
                    return True
                self.told.status(name)
                if "success" in kinds:
                    return True
                if kinds <= {"failure", "cancelled", "expired"}:
                    self._end("failed")
                    return False
            elif move == "passing":
                self.told.status(None, **self._one_of(*PASSING))
            elif move == "word":
                self.told.status(stages[0], answer=self._worded(stages[0]))
            elif move == "late":
                self.told.status(self._one_of(*stages), **NO_ANSWER).wait(30)
            elif move == "callback" and self.contract.callbacks is not None:
                self.told.callback(self._one_of(*self.contract.callbacks.situations))
                continue
            elif move == "refused":
                refusals += 1
                status = self._one_of(403, 404)
                self.told.status(None, status=status)
                if status == 403 or refusals > 2:
                    self._end("error")
                    return False
            self._pause(1, 5, patience / 8, patience / 4)
        return self._give_up()

    def _worded(self, stage: str) -> bytes:
        answer: bytes = Teller(self.contract).status(stage).exchanges[0].answer
        return answer.replace(f'"{stage}"'.encode(), b'"reticulating"')

    def _give_up(self) -> bool:
        if "cancel" in self.contract.operations:
            for _ in range(3):
                situation = self._one_of("cancelled", "completed", "in_progress", "unknown_job", None)
                self.told.call("cancel", situation, **({} if situation else self._one_of(*PASSING)))
                if situation is not None:
                    break
                self.told.wait(1)
        self._end("timeout")
        return False

    def _address(self) -> str | None:
        """Read until there is a video URL: in the result if the contract has one, otherwise in the status."""
        operation = self.contract.operations[self.carrier]
        stages = [name for name, one in operation.situations.items() if one.stages]
        bare = tries = 0
        last = "failed"
        while tries < 6:
            tries += 1
            move = self._one_of("ready", "ready", "ready", "bare", "passing", "early", "refused", "stage")
            if move == "ready" or (move == "stage" and self.carrier == "status"):
                good = [name for name in stages if self._kinds(name) == {"success"}]
                self._carry(self._one_of(*good))
                return self.told.video
            if move == "bare":
                good = [name for name in stages if self._kinds(name) == {"success"}]
                exchange = Teller(self.contract).call(self.carrier, good[0]).exchanges[0]
                self.told.call(self.carrier, good[0], answer=exchange.answer.replace(self.told.video.encode(), b""))
                bare += 1
            elif move == "stage":
                name = self._one_of(*stages)
                if "success" in self._kinds(name):
                    continue
                self.told.call(self.carrier, name)
                if self._kinds(name) <= {"failure", "cancelled", "expired"}:
                    break
            elif move == "refused":
                self.told.call(self.carrier, None, status=self._one_of(400, 403, 422))
                break
            else:
                how = {"status": self._one_of(404, 425)} if move == "early" else self._one_of(*PASSING)
                self.told.call(self.carrier, None, **how)
                last = "error"
            self._pause(1, 5)
            if bare > 3:
                break
        self._end(last)
        return None

    def _kinds(self, name: str) -> set[str]:
        situation = self.contract.operations[self.carrier].situations[name]
        return {self.contract.graph[stage].kind for stage in situation.stages}

    def _carry(self, situation: str) -> None:
        """Add the response with the video URL, and note when that expires."""
        operation = self.contract.operations[self.carrier]
        self.until = None
        how: dict[str, Any] = {}
        self.first_end = self.first_end or self.told.now
        if "expires_at" in operation.bindings:
            ends = int(self.told.now) + self._one_of(600, 604_800)
            how["answer"] = without(self.contract, "expires_at", ends)
            self.until = float(ends)
        elif self.contract.retention.result_url is not None:
            self.until = self.first_end + self.contract.retention.result_url
        self.told.call(self.carrier, situation, **how)

    def _fetch(self, address: str | None) -> None:
        renewed = 0
        for _ in range(6):
            self._pause(0, 1, 120, 700)
            if self.until is not None and self.told.now >= self.until:
                break
            move = self._one_of("good", "good", "spoilt", "passing", "refused", "missing")
            if move == "good":
                self.told.media(**self._one_of(*GOOD))
                self._pause(0)
                self._end("success", sha256="right", size=1000)
                return
            if move == "spoilt":
                self.told.media(**self._one_of(*SPOILT))
            elif move == "passing":
                self.told.media(**self._one_of(*(how for how in PASSING if how["status"] != 200)))
            elif move == "missing":
                self.told.media(404)
            else:
                self.told.media(self._one_of(403, 410))
                renewed += 1
                if renewed > 3 or self._address() is None:
                    if renewed > 3:
                        self._end("failed")
                    return
        self._end("failed")
