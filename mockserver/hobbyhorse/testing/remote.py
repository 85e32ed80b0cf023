"""A world on a server that runs elsewhere, over its control plane. Imports no server."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from decimal import Decimal
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import httpx

from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.scenarios.scenario import Scenario
from hobbyhorse.server.health import failure
from hobbyhorse.traces.trace import Trace, read_trace
from hobbyhorse.worlds.mistakes import COMPLAINTS, INVALID, UNMATCHED, uncollected_complaint, unmet_complaint

# The largest page of the control plane: a test with more jobs or exchanges sees the newest ones.
MOST_LISTED = 1_000
# Real seconds until a server must have responded to the first request: it may have just been started.
START_SECONDS = 10.0
# Longer than the 60 s for which the control plane lets a request wait (`/journal/wait`).
TIMEOUT_SECONDS = 70.0


class RemoteError(RuntimeError):
    """A refusal of the control plane (its message and hint), or a server that cannot be reached."""


class RemoteServer:
    """A server that already runs, such as `hobbyhorse serve`; each world has a new, unique key.

    `clock`, `pace` and `speed` are set for each new world; `seed` and `strict` have no effect on a running server.
    Raises RemoteError if no server responds at the URL.
    """

    def __init__(
        self,
        url: str,
        *,
        control_key: str | None = None,
        pace: str | None = None,
        clock: str = "real",
        speed: float = 1.0,
        seed: int | None = None,
        strict: bool = True,
    ) -> None:
        if clock not in ("real", "manual"):
            raise ValueError(f"'clock' is {clock!r}; allowed: 'real', 'manual'")
        self.url = url.rstrip("/")
        if (reason := failure(self.url, START_SECONDS)) is not None:
            raise RemoteError(f"no usable server at {self.url}: {reason}; start one with `hobbyhorse serve`")
        headers = {"x-mock-control-key": control_key} if control_key else {}
        # trust_env=False: a proxy of the environment cannot reach a server on loopback.
        self.http = httpx.Client(
            base_url=f"{self.url}/_mock", headers=headers, trust_env=False, timeout=TIMEOUT_SECONDS
        )
        self._pace = pace
        self._speed = 0.0 if clock == "manual" else speed

    @cached_property
    def providers(self) -> list[str]:
        """The providers that it serves."""
        return list(self.http.get(f"{self.url}/").json()["providers"])

    def world(self, api_key: str | None = None) -> RemoteWorld:
        """Return the world of a key, or a new world with a new key."""
        world = RemoteWorld(self, api_key or f"test-{uuid.uuid4()}")
        if self._speed != 1.0:
            world.clock.set_speed(self._speed)
        if self._pace is not None:
            world.ask("PATCH", "/settings", {"pace": self._pace})
        return world

    def stop(self) -> None:
        """Close the connections to the server, which keeps running."""
        self.http.close()


class RemoteClock:
    """The clock of one world."""

    def __init__(self, world: RemoteWorld) -> None:
        self._world = world

    def now(self) -> float:
        """Return the moment, in seconds since 1970."""
        return float(self._world.ask("GET", "/clock")["now"])

    @property
    def speed(self) -> float:
        """The multiple of real time at which it runs; 0 is a clock that stands until it is advanced."""
        return float(self._world.ask("GET", "/clock")["speed"])

    def set_speed(self, speed: float) -> None:
        """Run at a multiple of real time, or stand (0)."""
        self._world.ask("PUT", "/clock", {"speed": speed})

    def advance(self, seconds: float) -> None:
        """Move it forward; everything that falls due on the way has happened when this returns."""
        self._world.ask("POST", "/clock/advance", {"seconds": seconds})

    def run_until_idle(self) -> None:
        """Move it until nothing waits."""
        self._world.ask("POST", "/clock/run-until-idle")


class RemoteWorld:
    """The state of one API key on a running server; returned values have the control plane's fields."""

    def __init__(self, server: RemoteServer, api_key: str) -> None:
        self._server = server
        self.api_key = api_key
        self.clock = RemoteClock(self)

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Send a request to the control plane and return its JSON. Raises RemoteError for a refusal."""
        headers = {"authorization": f"Bearer {self.api_key}"}
        response = self._server.http.request(method, path, json=body, params=query, headers=headers)
        found = response.json()
        if response.is_error:
            error = found["error"]
            raise RemoteError(f"{error['message']}; {error['hint']}")
        return found

    def url(self, provider: str) -> str:
        """Return the URL that replaces a provider's base URL."""
        if provider not in self._server.providers:
            raise KeyError(f"there is no provider {provider!r}; allowed: {', '.join(self._server.providers)}")
        return f"{self._server.url}/{provider}"

    def env(self, provider: str) -> dict[str, str]:
        """Return the environment variables that point a provider's clients here, as `hobbyhorse env` prints them."""
        contracts = {contract.key: contract for contract in load_all()}
        if provider not in contracts:
            raise KeyError(f"there is no provider {provider!r}; allowed: {', '.join(contracts)}")
        return contracts[provider].environment(self._server.url, self.api_key, DEFAULT_SECRET)

    @property
    def jobs(self) -> list[SimpleNamespace]:
        """The jobs, oldest first."""
        return [SimpleNamespace(**job) for job in self.ask("GET", "/jobs", limit=MOST_LISTED)["jobs"]]

    @property
    def journal(self) -> list[SimpleNamespace]:
        """The newest exchanges, oldest first."""
        return [SimpleNamespace(**one) for one in self.ask("GET", "/journal", limit=MOST_LISTED)["exchanges"]]

    @property
    def callbacks(self) -> list[SimpleNamespace]:
        """Every attempt to deliver a callback of this world's jobs."""
        return [SimpleNamespace(**one) for one in self.ask("GET", "/callbacks")["attempts"]]

    @property
    def ledger(self) -> SimpleNamespace:
        """The jobs with their cost: which are billable, and which repeat an earlier order."""
        found = self.ask("GET", "/ledger")
        entries = [SimpleNamespace(**entry) for entry in found.pop("entries")]
        return SimpleNamespace(**{**found, "usd": Decimal(str(found["usd"])), "entries": entries})

    @property
    def billed(self) -> Decimal:
        """The cost of the jobs that succeeded, in USD."""
        found: Decimal = self.ledger.usd
        return found

    def trace(self, provider: str) -> Trace:
        """Return all exchanges between a provider and the client."""
        return read_trace(self.ask("GET", "/trace", provider=provider))

    def arm(
        self,
        scenario: str | Mapping[str, Any] | Scenario,
        *,
        provider: str | None = None,
        jobs: int | str | None = 1,
        seed: int = 0,
    ) -> SimpleNamespace:
        """Arm a scenario, by name or as a value, for the next `jobs` ("all": every job)."""
        body = {
            "scenario": scenario.to_json() if isinstance(scenario, Scenario) else scenario,
            "jobs": "all" if jobs is None else jobs,
            "seed": seed,
            **({"provider": provider} if provider is not None else {}),
        }
        return SimpleNamespace(**self.ask("POST", "/scenarios/arm", body))

    @property
    def armed(self) -> list[SimpleNamespace]:
        """The armed scenarios, with the faults that requests have met."""
        return [SimpleNamespace(**one) for one in self.ask("GET", "/scenarios/armed")["armed"]]

    @property
    def unmet(self) -> list[str]:
        """The armed faults that no request has met."""
        return [f"{armed.scenario}: {fault}" for armed in self.armed for fault in armed.unmet]

    def disarm(self) -> int:
        """Disarm every scenario; return their number."""
        return int(self.ask("DELETE", "/scenarios/armed")["disarmed"])

    def limit(self, **limits: Any) -> None:
        """Set limits of this key; None removes a limit."""
        # JSON has no decimals; the control plane reads the number by its text, so that 0.1 stays 0.1.
        plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in limits.items()}
        self.ask("PATCH", "/settings", {"limits": plain})

    @property
    def pace(self) -> str:
        """The duration of stages: `instant`, `fast` or `realistic`."""
        return str(self.ask("GET", "/settings")["pace"])

    @pace.setter
    def pace(self, name: str) -> None:
        self.ask("PATCH", "/settings", {"pace": name})

    def transition(self, job: str, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage that may follow its current one. Raises RemoteError, which names them."""
        body = {"stage": stage, "code": code, "message": message}
        self.ask("POST", f"/jobs/{job}/transition", {name: value for name, value in body.items() if value is not None})

    def redeliver(self, job: str) -> None:
        """Deliver a job's callback again."""
        self.ask("POST", f"/callbacks/{job}/redeliver")

    def reset(self, *what: str) -> None:
        """Forget `jobs`, `journal`, `scenarios` or the waiting actions of the `clock`; all of them by default."""
        self.ask("POST", "/reset", {"what": list(what)} if what else {})

    def wait_for(self, count: int = 1, timeout: float = 5.0, **wanted: Any) -> list[SimpleNamespace]:
        """Wait in real time until `count` exchanges have the wanted fields; return them. Raises TimeoutError."""
        try:
            found = self.ask("POST", "/journal/wait", {"count": count, "timeout": timeout, **wanted})
        except RemoteError as error:
            raise TimeoutError(str(error)) from None
        return [SimpleNamespace(**one) for one in found["exchanges"]]

    def complaints(self, about: Collection[str] = COMPLAINTS) -> list[str]:
        """Return the situations that a test most likely did not intend; see MockWorld."""
        found = []
        for one in self.journal:
            text = one.nearest["text"] if one.nearest else f"{one.method} {one.path}: {'; '.join(one.notes)}"
            unmatched = one.situation in UNMATCHED and "unmatched" in about
            if one.move is None and (unmatched or (one.situation in INVALID and "invalid" in about)):
                found.append(text)
        if "unmet" in about:
            found += [unmet_complaint(fault) for fault in self.unmet]
        if "uncollected" in about:
            found += [
                uncollected_complaint(job.id, job.stage) for job in self.jobs if not job.collected and _may_end(job)
            ]
        return found


def _may_end(job: SimpleNamespace) -> bool:
    """Whether a job's timeline leads to a terminal stage; True for a provider whose contract is not installed here."""
    # The listed timeline has stages, not their classes. A provider unknown here is given the benefit of the doubt.
    contract = next((contract for contract in load_all() if contract.key == job.provider), None)
    last = job.timeline[-1]["stage"]
    return contract is None or last not in contract.graph.stages or contract.graph[last].terminal
