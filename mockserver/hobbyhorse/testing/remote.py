"""A world on a server that runs elsewhere, over its control plane. Imports no server."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any

import httpx

from hobbyhorse.clock.clock import real_seconds
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.lifecycle import LifecycleError
from hobbyhorse.scenarios.scenario import Scenario, ScenarioError
from hobbyhorse.server.health import failure
from hobbyhorse.testing.complaints import complaints_about
from hobbyhorse.testing.control_json import read_armed, read_attempt, read_exchange, read_job, read_ledger
from hobbyhorse.testing.records import ArmedScenario, CallbackAttempt, Exchange, Job
from hobbyhorse.testing.world import EXCHANGE_FIELDS
from hobbyhorse.traces.trace import Trace, read_trace
from hobbyhorse.worlds.ledger import Ledger
from hobbyhorse.worlds.limits import Limits, read_limits
from hobbyhorse.worlds.mistakes import COMPLAINTS

# The largest page of the control plane; longer lists are read page by page.
PAGE = 1_000
# Real seconds until a server must have responded to the first request: it may have just been started.
START_SECONDS = 10.0
# Real seconds for which the control plane lets one request wait (`/journal/wait`).
LONGEST_WAIT_SECONDS = 60.0
# Longer than the longest wait, so that the server's own refusal arrives.
TIMEOUT_SECONDS = LONGEST_WAIT_SECONDS + 10.0


class RemoteError(RuntimeError):
    """A refusal of the control plane (its `code`, `message` and `hint`), or a server that cannot be reached.

    Refusals have subclasses that are also the errors of a local world, so that a test expects the same ones.
    """

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.code, self.message, self.hint = code, message, hint

    def __str__(self) -> str:
        # KeyError would quote the message.
        return str(self.args[0])


class RemoteValueError(RemoteError, ValueError):
    """A refused value."""


class RemoteLookupError(RemoteError, KeyError):
    """A job, a callback or a provider that is not there."""


class RemoteLifecycleError(RemoteError, LifecycleError):
    """A transition that the job's stage does not allow."""


class RemoteScenarioError(RemoteError, ScenarioError):
    """A scenario that cannot be armed."""


ERRORS: Mapping[str, type[RemoteError]] = {
    "invalid_body": RemoteValueError,
    "invalid_query": RemoteValueError,
    "unknown_provider": RemoteLookupError,
    "unknown_job": RemoteLookupError,
    "no_callback": RemoteLookupError,
    "illegal_transition": RemoteLifecycleError,
    "unknown_scenario": RemoteScenarioError,
    "invalid_scenario": RemoteScenarioError,
    "not_applicable": RemoteScenarioError,
    "too_many": RemoteScenarioError,
    "too_many_ends": RemoteValueError,
}
"""The classes of refusals by the control plane's code; any other code is a plain RemoteError."""


class RemoteServer:
    """A server that already runs, such as `hobbyhorse serve`; each world has a new, unique key.

    `clock`, `pace` and `speed` are set for each new world. `seed` and `strict` belong to the whole server: raises
    ValueError for them, and RemoteError if no server responds at the URL.
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
        strict: bool | None = None,
    ) -> None:
        if clock not in ("real", "manual"):
            raise ValueError(f"'clock' is {clock!r}; allowed: 'real', 'manual'")
        for name, value in (("seed", seed), ("strict", strict)):
            if value is not None:
                raise ValueError(
                    f"{name!r} is {value!r}, but a running server keeps its own; leave it out, and start the server "
                    f"with the wanted one: `hobbyhorse serve --help` documents --{name}"
                )
        self.url = url.rstrip("/")
        if (reason := failure(self.url, START_SECONDS)) is not None:
            raise RemoteError(f"no usable server at {self.url}: {reason}", "start one with `hobbyhorse serve`")
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
    """The state of one API key on a running server; `AnyWorld` documents the members, which a local world has too."""

    def __init__(self, server: RemoteServer, api_key: str) -> None:
        self._server = server
        self.api_key = api_key
        self.clock = RemoteClock(self)

    def ask(self, method: str, path: str, body: Any = None, /, **query: Any) -> Any:
        """Send a request to the control plane and return its JSON. Raises a RemoteError of `ERRORS` for a refusal."""
        headers = {"authorization": f"Bearer {self.api_key}"}
        response = self._server.http.request(method, path, json=body, params=query, headers=headers)
        found = response.json()
        if response.is_error:
            error = found["error"]
            kind = ERRORS.get(error["code"], RemoteError)
            raise kind(error["message"], error["hint"], error["code"])
        return found

    def _pages(self, path: str, **query: Any) -> list[Any]:
        """Return every page of a list, oldest first."""
        pages = [self.ask("GET", path, limit=PAGE, **query)]
        # Pages go back in time from the newest one.
        while (cursor := pages[-1]["older"]) is not None:
            pages.append(self.ask("GET", path, limit=PAGE, cursor=cursor, **query))
        return pages[::-1]

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
    def jobs(self) -> list[Job]:
        """The jobs, oldest first."""
        return [read_job(job, page["now"]) for page in self._pages("/jobs") for job in page["jobs"]]

    @property
    def journal(self) -> list[Exchange]:
        """The newest exchanges, oldest first."""
        return self._exchanges()

    def _exchanges(self, **wanted: Any) -> list[Exchange]:
        return [read_exchange(one) for page in self._pages("/journal", **wanted) for one in page["exchanges"]]

    @property
    def callbacks(self) -> list[CallbackAttempt]:
        """Every attempt to deliver a callback of this world's jobs."""
        return [read_attempt(one) for one in self.ask("GET", "/callbacks")["attempts"]]

    @property
    def ledger(self) -> Ledger:
        """The jobs with their cost: which are billable, and which repeat an earlier order."""
        return read_ledger(entry for page in self._pages("/ledger") for entry in page["entries"])

    @property
    def billed(self) -> Decimal:
        """The cost of the jobs that succeeded, in USD."""
        return self.ledger.usd

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
    ) -> ArmedScenario:
        """Arm a scenario, by name or as a value, for the next `jobs` ("all" or None: every job)."""
        body = {
            "scenario": scenario.to_json() if isinstance(scenario, Scenario) else scenario,
            "jobs": "all" if jobs is None else jobs,
            "seed": seed,
            **({"provider": provider} if provider is not None else {}),
        }
        return read_armed(self.ask("POST", "/scenarios/arm", body))

    @property
    def armed(self) -> list[ArmedScenario]:
        """The armed scenarios, with the faults that requests have met."""
        return [read_armed(one) for one in self.ask("GET", "/scenarios/armed")["armed"]]

    @property
    def unmet(self) -> list[str]:
        """The armed faults that no request has met."""
        return [f"{armed.scenario.name}: {fault}" for armed in self.armed for fault in armed.unmet()]

    def disarm(self) -> int:
        """Disarm every scenario; return their number."""
        return int(self.ask("DELETE", "/scenarios/armed")["disarmed"])

    def limit(self, **limits: Any) -> None:
        """Set limits of this key; None removes a limit."""
        # JSON has no decimals; the control plane reads the number by its text, so that 0.1 stays 0.1.
        plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in limits.items()}
        self.ask("PATCH", "/settings", {"limits": plain})

    @property
    def limits(self) -> Limits:
        """The limits of this key."""
        return read_limits(self.ask("GET", "/settings")["limits"])

    @property
    def pace(self) -> str:
        """The duration of stages: `instant`, `fast` or `realistic`."""
        return str(self.ask("GET", "/settings")["pace"])

    @pace.setter
    def pace(self, name: str) -> None:
        self.ask("PATCH", "/settings", {"pace": name})

    def transition(self, job: str, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage that may follow its current one. Raises LifecycleError, which names them."""
        body = {"stage": stage, "code": code, "message": message}
        self.ask("POST", f"/jobs/{job}/transition", {name: value for name, value in body.items() if value is not None})

    def end_next_job(self, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Set the terminal stage of the next job of a provider that has it, and the code and message of a failure."""
        self.ask("POST", "/jobs/end-next", {"stage": stage, "code": code, "message": message})

    def redeliver(self, job: str) -> None:
        """Deliver a job's callback again."""
        self.ask("POST", f"/callbacks/{job}/redeliver")

    def reset(self, *what: str) -> None:
        """Forget `jobs`, `journal`, `scenarios` or the waiting actions of the `clock`; all of them by default."""
        self.ask("POST", "/reset", {"what": list(what)} if what else {})

    def wait_for(self, count: int = 1, timeout: float = 5.0, **wanted: Any) -> list[Exchange]:
        """Wait in real time until `count` exchanges have the wanted fields; return all such. Raises TimeoutError."""
        if unknown := sorted(set(wanted) - set(EXCHANGE_FIELDS)):
            raise ValueError(f"cannot wait for {unknown[0]!r}; allowed: {', '.join(EXCHANGE_FIELDS)}")
        deadline = real_seconds() + timeout
        while True:
            # At least once, also with a timeout of 0.
            left = max(0.0, deadline - real_seconds())
            body = {"count": count, "timeout": min(left, LONGEST_WAIT_SECONDS), **wanted}
            try:
                self.ask("POST", "/journal/wait", body)
            except RemoteError as error:
                if error.code != "timeout":
                    raise
                if left <= LONGEST_WAIT_SECONDS:
                    raise TimeoutError(str(error)) from None
            else:
                return self._exchanges(**wanted)

    def complaints(self, about: Collection[str] = COMPLAINTS) -> list[str]:
        """Return the situations that a test most likely did not intend; see AnyWorld."""
        return list(complaints_about(self, about))
