"""The one face of a world for tests: `MockWorld` and `RemoteWorld` have these members with these types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, Protocol

from hobbyhorse.scenarios.scenario import Scenario
from hobbyhorse.testing.records import ArmedScenario, CallbackAttempt, Exchange, Job
from hobbyhorse.traces.trace import Trace
from hobbyhorse.worlds.ledger import Ledger
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.mistakes import COMPLAINTS

EXCHANGE_FIELDS = ("provider", "role", "situation", "status", "move", "method", "path", "job")
"""The fields of an exchange that `wait_for` can compare: the fields of the control plane."""


class AnyClock(Protocol):
    """The clock of one world."""

    def now(self) -> float:
        """Return the moment, in seconds since 1970."""

    @property
    def speed(self) -> float:
        """The multiple of real time at which it runs; 0 is a clock that stands until it is advanced."""

    def set_speed(self, speed: float) -> None:
        """Run at a multiple of real time, or stand (0)."""

    def advance(self, seconds: float) -> None:
        """Move it forward; everything that falls due on the way has happened when this returns."""

    def run_until_idle(self) -> None:
        """Move it until every job has ended and every callback, with its retries, was delivered."""


class AnyWorld(Protocol):
    """The state of one API key, on a server in this process (`MockWorld`) or on any other one (`RemoteWorld`).

    Lists have the oldest entry first. Their entries are frozen records of the moment of reading; read the list again
    for the present state. A journal keeps the newest 1,000 exchanges, and a server the newest 1,000 callback attempts.

    A refusal raises the same class in both worlds: ValueError for a wrong value, ScenarioError for a scenario that
    cannot be armed, LifecycleError for a stage that cannot follow, LookupError for something that is not there. The
    error of a remote world is also a RemoteError.

    Only a `MockWorld` has `keep(most)`, `clock.awaited` and `trace(..., strangers=False)`: they need the server's
    objects. A remote world shortens the long image URLs of orders, and has replaced the bytes of bodies that are not
    UTF-8, as the control plane's JSON does. Its `env` has the default callback secret, whatever the server's is.
    """

    @property
    def api_key(self) -> str:
        """The API key of the client under test."""

    @property
    def clock(self) -> AnyClock:
        """The clock of this world."""

    def url(self, provider: str) -> str:
        """Return the URL that replaces a provider's base URL. Raises KeyError."""

    def env(self, provider: str) -> dict[str, str]:
        """Return the environment variables that point a provider's clients here. Raises KeyError."""

    @property
    def jobs(self) -> list[Job]:
        """The jobs."""

    @property
    def journal(self) -> list[Exchange]:
        """The newest exchanges."""

    @property
    def callbacks(self) -> list[CallbackAttempt]:
        """The attempts to deliver a callback of this world's jobs."""

    @property
    def ledger(self) -> Ledger:
        """The jobs with their cost: which are billable, and which repeat an earlier order."""

    @property
    def billed(self) -> Decimal:
        """The cost of the jobs that succeeded, in USD."""

    def trace(self, provider: str) -> Trace:
        """Return all exchanges between a provider and the client, without secrets. Raises KeyError."""

    def arm(
        self,
        scenario: str | Mapping[str, Any] | Scenario,
        *,
        provider: str | None = None,
        jobs: int | str | None = 1,
        seed: int = 0,
    ) -> ArmedScenario:
        """Arm a scenario, by name or as a value, for the next `jobs` ("all" or None: every job).

        Raises ScenarioError with the nearest names, or with the reasons why it applies to no provider.
        """

    @property
    def armed(self) -> list[ArmedScenario]:
        """The armed scenarios, with the faults that requests have met."""

    @property
    def unmet(self) -> list[str]:
        """The armed faults that no request has met, such as `job_slow: timeline slow`."""

    def disarm(self) -> int:
        """Disarm every scenario; return their number."""

    def limit(self, **limits: Any) -> None:
        """Set limits of this key by the names of `Limits`; None removes one. Raises ValueError if one is invalid."""

    @property
    def limits(self) -> Limits:
        """The limits of this key."""

    @property
    def pace(self) -> str:
        """The duration of stages: `instant`, `fast` or `realistic`. Setting another one raises ValueError."""

    @pace.setter
    def pace(self, name: str) -> None: ...

    def transition(self, job: str, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage that may follow its own. Raises LifecycleError, which names them, or KeyError."""

    def end_next_job(self, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Set the terminal stage of the next job of a provider that has it, and the code and message of its error.

        Raises ValueError if no provider has the stage, or if 100 ends wait for their jobs.
        """

    def redeliver(self, job: str) -> None:
        """Deliver a job's callback again. Raises LookupError if there is none."""

    def reset(self, *what: str) -> None:
        """Forget `jobs`, `journal`, `scenarios` or the waiting actions of the `clock`; all of them by default."""

    def wait_for(self, count: int = 1, timeout: float = 5.0, **wanted: Any) -> list[Exchange]:
        """Wait in real time until `count` exchanges have the wanted fields; return all that have them.

        The fields are `provider`, `role`, `situation`, `status`, `move`, `method`, `path` and `job`. Raises
        TimeoutError, which lists the exchanges that there are, and ValueError for another field.
        """

    def complaints(self, about: Collection[str] = COMPLAINTS) -> list[str]:
        """Return the situations that a test most likely did not intend, each with the next step.

        `unmatched`: requests that match no operation; `invalid`: requests that break the contract; `unmet`: armed
        faults that no request has met; `uncollected`: jobs that were never seen to end.
        """
