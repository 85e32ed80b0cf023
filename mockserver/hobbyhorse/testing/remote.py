"""The same world for a test whose server runs in another process: over its control plane; knows no server of ours."""

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

MOST_LISTED = 1_000
START_SECONDS = 10.0
"""How many seconds a server may take to say that it is up."""


class RemoteError(RuntimeError):
    """What the control plane refused: its message, and its hint; or that there is no server."""


class RemoteServer:
    """A server that runs already, such as `hobbyhorse serve`; each world has a key that nobody else has.

    `clock`, `pace` and `speed` are set for each new world; the seed of a running server cannot be chosen.
    Raises RemoteError if no server answers at the address.
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
            raise ValueError(f"clock {clock!r}; allowed are 'real' and 'manual'")
        self.url = url.rstrip("/")
        if (reason := failure(self.url, START_SECONDS)) is not None:
            raise RemoteError(f"no server to use at {self.url}: {reason}; `hobbyhorse serve` starts one")
        headers = {"x-mock-control-key": control_key} if control_key else {}
        self.http = httpx.Client(base_url=f"{self.url}/_mock", headers=headers, trust_env=False, timeout=70.0)
        self._pace = pace
        self._speed = 0.0 if clock == "manual" else speed

    @cached_property
    def providers(self) -> list[str]:
        """The providers that it serves."""
        return list(self.http.get(f"{self.url}/").json()["providers"])

    def world(self, api_key: str | None = None) -> RemoteWorld:
        """Return the world of a key; a new world, with a key of its own, if none is given."""
        world = RemoteWorld(self, api_key or f"test-{uuid.uuid4()}")
        if self._speed != 1.0:
            world.clock.set_speed(self._speed)
        if self._pace is not None:
            world.ask("PATCH", "/settings", {"pace": self._pace})
        return world

    def stop(self) -> None:
        """Close the connections to the server, which goes on."""
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
        """How many times faster than real time it runs; 0 is a clock that stands until it is moved."""
        return float(self._world.ask("GET", "/clock")["speed"])

    def set_speed(self, speed: float) -> None:
        """Have it run so many times faster than real time, or stand at 0."""
        self._world.ask("PUT", "/clock", {"speed": speed})

    def advance(self, seconds: float) -> None:
        """Move it forward; on a clock that stands, what falls due on the way has happened when this returns."""
        self._world.ask("POST", "/clock/advance", {"seconds": seconds})

    def run_until_idle(self) -> None:
        """Move it until nothing waits any more."""
        self._world.ask("POST", "/clock/run-until-idle")


class RemoteWorld:
    """What belongs to one API key on a server that runs already; what it returns has the control plane's fields."""

    def __init__(self, server: RemoteServer, api_key: str) -> None:
        self._server = server
        self.api_key = api_key
        self.clock = RemoteClock(self)

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Ask the control plane. Raises RemoteError for a refusal."""
        headers = {"authorization": f"Bearer {self.api_key}"}
        answer = self._server.http.request(method, path, json=body, params=query, headers=headers)
        found = answer.json()
        if answer.is_error:
            error = found["error"]
            raise RemoteError(f"{error['message']}; {error['hint']}")
        return found

    def url(self, provider: str) -> str:
        """Return what to put where a provider's base URL stood."""
        if provider not in self._server.providers:
            raise KeyError(f"no provider {provider!r}; there are {', '.join(self._server.providers)}")
        return f"{self._server.url}/{provider}"

    def env(self, provider: str) -> dict[str, str]:
        """Return the environment that points a provider's clients here, as `hobbyhorse env` prints it."""
        contracts = {contract.key: contract for contract in load_all()}
        if provider not in contracts:
            raise KeyError(f"no provider {provider!r}; there are {', '.join(contracts)}")
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
        """Every delivery of a callback that was tried for a job of this world."""
        return [SimpleNamespace(**one) for one in self.ask("GET", "/callbacks")["attempts"]]

    @property
    def ledger(self) -> SimpleNamespace:
        """What was ordered, what of it is billable, and what orders the same as another job."""
        found = self.ask("GET", "/ledger")
        entries = [SimpleNamespace(**entry) for entry in found.pop("entries")]
        return SimpleNamespace(**{**found, "usd": Decimal(str(found["usd"])), "entries": entries})

    @property
    def billed(self) -> Decimal:
        """What the jobs that have succeeded cost, in USD."""
        found: Decimal = self.ledger.usd
        return found

    def trace(self, provider: str) -> Trace:
        """Return everything that passed between a provider and the client."""
        return read_trace(self.ask("GET", "/trace", provider=provider))

    def arm(
        self,
        scenario: str | Mapping[str, Any] | Scenario,
        *,
        provider: str | None = None,
        jobs: int | str | None = 1,
        seed: int = 0,
    ) -> SimpleNamespace:
        """Arm a scenario, by its name in the catalogue or as it is, for the next jobs ("all": for every one)."""
        body = {
            "scenario": scenario.to_json() if isinstance(scenario, Scenario) else scenario,
            "jobs": "all" if jobs is None else jobs,
            "seed": seed,
            **({"provider": provider} if provider is not None else {}),
        }
        return SimpleNamespace(**self.ask("POST", "/scenarios/arm", body))

    @property
    def armed(self) -> list[SimpleNamespace]:
        """Everything that was armed, and what of it was met."""
        return [SimpleNamespace(**one) for one in self.ask("GET", "/scenarios/armed")["armed"]]

    @property
    def unmet(self) -> list[str]:
        """Every move that was armed and that no request has met."""
        return [f"{armed.scenario}: {what}" for armed in self.armed for what in armed.unmet]

    def disarm(self) -> int:
        """Disarm everything; how many scenarios that were."""
        return int(self.ask("DELETE", "/scenarios/armed")["disarmed"])

    def limit(self, **limits: Any) -> None:
        """Limit what this key may do from now on; None takes a limit away."""
        plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in limits.items()}
        self.ask("PATCH", "/settings", {"limits": plain})

    @property
    def pace(self) -> str:
        """How long stages last: `instant`, `fast` or `realistic`."""
        return str(self.ask("GET", "/settings")["pace"])

    @pace.setter
    def pace(self, name: str) -> None:
        self.ask("PATCH", "/settings", {"pace": name})

    def transition(self, job: str, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage that may follow its own."""
        said = {"stage": stage, "code": code, "message": message}
        self.ask("POST", f"/jobs/{job}/transition", {name: value for name, value in said.items() if value is not None})

    def redeliver(self, job: str) -> None:
        """Deliver a job's callback once more."""
        self.ask("POST", f"/callbacks/{job}/redeliver")

    def reset(self, *what: str) -> None:
        """Forget `jobs`, `journal`, `scenarios`, what waits on the `clock`; everything, if nothing is named."""
        self.ask("POST", "/reset", {"what": list(what)} if what else {})

    def wait_for(self, count: int = 1, timeout: float = 5.0, **wanted: Any) -> list[SimpleNamespace]:
        """Wait in real time until so many exchanges have the wanted fields. Raises TimeoutError."""
        try:
            found = self.ask("POST", "/journal/wait", {"count": count, "timeout": timeout, **wanted})
        except RemoteError as error:
            raise TimeoutError(str(error)) from None
        return [SimpleNamespace(**one) for one in found["exchanges"]]

    def complaints(self, about: Collection[str] = COMPLAINTS) -> list[str]:
        """Return what a test most likely did not mean, each with what to do about it; see MockWorld."""
        said = []
        for one in self.journal:
            text = one.nearest["text"] if one.nearest else f"{one.method} {one.path}: {'; '.join(one.notes)}"
            unmatched = one.situation in UNMATCHED and "unmatched" in about
            if one.move is None and (unmatched or (one.situation in INVALID and "invalid" in about)):
                said.append(text)
        if "unmet" in about:
            said += [unmet_complaint(what) for what in self.unmet]
        if "uncollected" in about:
            said += [
                uncollected_complaint(job.id, job.stage) for job in self.jobs if not job.collected and _may_end(job)
            ]
        return said


def _may_end(job: SimpleNamespace) -> bool:
    """Whether a job's timeline leads to an end, as far as the project's contracts tell; a stuck one has none."""
    contract = next((contract for contract in load_all() if contract.key == job.provider), None)
    last = job.timeline[-1]["stage"]
    return contract is None or last not in contract.graph.stages or contract.graph[last].terminal
