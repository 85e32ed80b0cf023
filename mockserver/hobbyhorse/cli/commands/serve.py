"""`hobbyhorse serve`: check the options, then run the server until it is stopped. Knows no HTTP."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hobbyhorse.cli.listening import (
    TlsOptions,
    is_loopback,
    kept_certificates,
    listen,
    open_front,
    read_authority,
    read_proxies,
)
from hobbyhorse.cli.options import contracts_option, load_contracts, load_scenarios, scenarios_option
from hobbyhorse.cli.processes.sharing import Sharing, read_sharing
from hobbyhorse.cli.usage import UsageError, complain, inform
from hobbyhorse.clock.clock import ManualClock, RealClock
from hobbyhorse.contract.folder import ContractError, data_directory
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import Scenario, misfits
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.control.access import Team, origin_of
from hobbyhorse.server.control.teams import SENDABLE, TeamsError, read_teams
from hobbyhorse.server.files.cache import unwritable, user_directory
from hobbyhorse.server.files.image_sources import split
from hobbyhorse.server.run import announce, serve
from hobbyhorse.state.errors import StateError
from hobbyhorse.worlds.jobs import PACES
from hobbyhorse.worlds.limits import RULES, Limits

if TYPE_CHECKING:  # the server does not need traces to start, see _judge, nor TLS, see open_front, nor a state
    from hobbyhorse.server.front.gate import Front
    from hobbyhorse.server.kept.keeper import Keeper
    from hobbyhorse.server.observing.observed import Observed
    from hobbyhorse.server.reloading.watch import Watch
    from hobbyhorse.traces.trace import Trace

# The prefix of the variables that set options, see `command_group`.
ENVIRONMENT = "HOBBYHORSE_SERVE"
RELOADING = "hobbyhorse.server.reloading"
"""Its modules are imported for --watch alone: they need 5 ms."""
# The panels of --help; they appear in the order of the options below.
NETWORK, TIME, CONTRACTS, MEDIA = "Network", "Time", "Contracts", "Media"
STATE, CONTROL, LIMITS, OBSERVING = "State", "Control", "Limits", "Observing"
TLS = "TLS and fixed hosts"
# The values of --log and --log-level; `observing.log` has them too, but is not imported at each start.
FORMS, LEVELS = ("text", "json"), ("debug", "info", "warning", "error")

# 100,000 worlds took 1.1 GB; a shared server of twelve teams has some hundred keys a day.
KEEP_WORLDS = 10_000
# More than a load test makes in an hour; as many take 140 MB.
KEEP_JOBS = 100_000
# The limits whose options have other names.
OPTIONS = {"workers": "--provider-workers"}
# Two runs never draw the same: as many bytes as a UUID has.
RUN_BYTES = 16
# A clock at this speed passes 30 years per second. The bound excludes inf, for which no time can be computed.
SPEED_BOUND = 1e9


def command(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.", rich_help_panel=NETWORK)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.", rich_help_panel=NETWORK)
    ] = 8000,
    public_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The URL of this server in responses, if clients use another URL than the one it listens on.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS[,ADDRESS]",
            help="Follow X-Forwarded-Proto, -Host, -Prefix and Forwarded from reverse proxies at ADDRESS, such as "
            "10.0.0.0/8 (repeatable).",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Accept only this key (repeatable); by default any.", rich_help_panel=NETWORK),
    ] = None,
    callback_secret: Annotated[
        str,
        typer.Option(metavar="SECRET", help="Sign callbacks with SECRET; empty: unsigned.", rich_help_panel=NETWORK),
    ] = DEFAULT_SECRET,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            help="Also serve HTTPS, with a certificate authority of this server's own, and a forward proxy for clients "
            "with fixed hosts.",
            rich_help_panel=TLS,
        ),
    ] = False,
    tls_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="The port for HTTPS; 0 picks a free one. By default 8443.",
            rich_help_panel=TLS,
        ),
    ] = None,
    connect_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="The port of the forward proxy; 0 picks a free one. By default 8888.",
            rich_help_panel=TLS,
        ),
    ] = None,
    tls_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which clients reach this server, for its certificate (repeatable).",
            rich_help_panel=TLS,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Serve HTTPS with the certificate, and its chain, in FILE.", rich_help_panel=TLS
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key of --tls-cert, in PEM format.", rich_help_panel=TLS)
    ] = None,
    pace: Annotated[
        str,
        typer.Option(
            metavar="instant|fast|realistic",
            help="How long a stage lasts: 0 s, 0.1 to 0.3 s, or as long as the provider's.",
            rich_help_panel=TIME,
        ),
    ] = "fast",
    clock: Annotated[
        str,
        typer.Option(
            metavar="real|manual",
            help="real: the clock runs; manual: only the control plane moves it.",
            rich_help_panel=TIME,
        ),
    ] = "real",
    speed: Annotated[
        float, typer.Option(metavar="N", help="Run the clock N times as fast as real time.", rich_help_panel=TIME)
    ] = 1.0,
    contracts: Annotated[Path | None, contracts_option(CONTRACTS)] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROVIDER:NAME",
            help="Use another reading of the documents (repeatable); see `providers`.",
            rich_help_panel=CONTRACTS,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Validate every response against the contract.", rich_help_panel=CONTRACTS)
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Read contracts, scenarios, and the files of --tls-cert again when they change.",
            rich_help_panel=CONTRACTS,
        ),
    ] = False,
    fetch_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Also fetch input images from HOST (repeatable); * allows any public host.",
            rich_help_panel=MEDIA,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep videos in DIR; by default the user's cache.", rich_help_panel=MEDIA),
    ] = None,
    cache_size: Annotated[
        int,
        typer.Option(
            metavar="MB",
            min=1,
            help="Keep at most MB megabytes of videos, and as much of input images.",
            rich_help_panel=MEDIA,
        ),
    ] = 1024,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL",
            help="Keep all jobs, callbacks and idempotency keys in DIR, so that the next server goes on with them, or "
            "in Redis (redis://HOST), so that several servers share them; by default they end with the server.",
            rich_help_panel=STATE,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Serve from N processes on one port, with the state in Redis.",
            rich_help_panel=STATE,
        ),
    ] = 1,
    scenarios: Annotated[list[Path] | None, scenarios_option(CONTROL)] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random choice.", rich_help_panel=CONTROL)] = 0,
    control_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="HOBBYHORSE_CONTROL_KEY",
            show_envvar=False,
            help="Require KEY in X-Mock-Control-Key for the control plane, which is then open to other machines; "
            "also HOBBYHORSE_CONTROL_KEY.",
            rich_help_panel=CONTROL,
        ),
    ] = None,
    control_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read the control key from FILE, such as a mounted secret.", rich_help_panel=CONTROL
        ),
    ] = None,
    control_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Give each team a control key for its own worlds: JSON, "
            '{KEY: {"name": "team-a", "prefix": "a-"}}; its API keys begin with the prefix.',
            rich_help_panel=CONTROL,
        ),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="HOBBYHORSE_ADMIN_KEY",
            show_envvar=False,
            help="Let requests with KEY in X-Mock-Admin-Key list and forget worlds; also HOBBYHORSE_ADMIN_KEY.",
            rich_help_panel=CONTROL,
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Let web pages of ORIGIN use the providers (repeatable); * allows any page.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    requests_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="Refuse a key's requests beyond N per second.", rich_help_panel=LIMITS),
    ] = None,
    concurrent_jobs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Refuse a key's submissions while N of its jobs run.", rich_help_panel=LIMITS),
    ] = None,
    provider_workers: Annotated[
        int | None, typer.Option(metavar="N", help="Process N jobs of a key concurrently.", rich_help_panel=LIMITS)
    ] = None,
    workers: Annotated[int | None, typer.Option(hidden=True)] = None,  # the old name of --provider-workers
    rivals: Annotated[
        int, typer.Option(metavar="N", help="Simulate N jobs of other customers in the queue.", rich_help_panel=LIMITS)
    ] = 0,
    keep_worlds: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Keep N idle worlds; beyond them, the least recently used are forgotten.",
            rich_help_panel=LIMITS,
        ),
    ] = KEEP_WORLDS,
    keep_jobs: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Keep N jobs of a key; beyond them, ended ones are forgotten.",
            rich_help_panel=LIMITS,
        ),
    ] = KEEP_JOBS,
    balance: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Refuse a key's submissions beyond this sum.", rich_help_panel=LIMITS),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(FORMS), help="Log to stderr in this form; by default text.", rich_help_panel=OBSERVING
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(LEVELS),
            help="Log records from this level on; debug: one line for each request. By default info.",
            rich_help_panel=OBSERVING,
        ),
    ] = None,
    otel: Annotated[
        bool,
        typer.Option(
            "--otel",
            help="Send a span of each request to OpenTelemetry; needs hobbyhorse[otel].",
            rich_help_panel=OBSERVING,
        ),
    ] = False,
) -> None:
    """Serve every provider: one JSON line on stdout when ready, everything else on stderr.

    A variable can set each option, such as HOBBYHORSE_SERVE_PUBLIC_URL for --public-url. In a repeatable one, spaces
    separate values, and colons separate paths.
    """
    observe = _observers(log, log_level, otel)
    # The port is bound after every check, so that a mistake in the options is reported even if the port is in use.
    _check_time(pace, clock, speed)
    if public_url is not None and split(public_url) is None:
        raise UsageError(f"--public-url is {public_url!r}; allowed: http:// or https:// and a host")
    if cache is not None and cache.exists() and not cache.is_dir():
        raise UsageError(f"--cache: {str(cache)!r} is not a directory")
    if any(not key.strip() for key in api_key or ()):
        raise UsageError("--api-key is blank; allowed: at least one character that is not a space")
    control_key = _control_key(control_key, control_key_file)
    _check_sendable("--control-key", control_key)
    _check_sendable("--admin-key", admin_key)
    teams = _teams(control_keys, control_key)
    _check_origins(allow_origin or ())
    sharing = read_sharing(state, processes)
    limits = _limits(
        requests_per_second=requests_per_second,
        concurrent_jobs=concurrent_jobs,
        workers=_one_of(provider_workers, workers),
        rivals=rivals,
        balance=_usd(balance),
    )
    proxies = read_proxies(trusted_proxies or ())
    secure = TlsOptions.read(tls, tls_port, connect_port, names=tls_name, cert=tls_cert, key=tls_key)
    loaded = load_contracts(contracts, variant or ())
    if scenarios:
        # Loaded here only to check them; the server loads them again, with the project's.
        _warn_of_misfits(load_scenarios(scenarios), loaded)
    cache = _writable_cache(cache)
    keeper = None if state is None or sharing is not None else _open_state(state, seed, loaded)
    # Before Options: whether other machines reach the server depends on the bound address.
    bound = listen(host, port, shared=processes > 1)
    front = None if secure is None else _open_front(loaded, bound, secure, public_url, sharing=sharing, state=state)
    options = Options(
        pace=pace,
        seed=seed,
        api_keys=frozenset(api_key or ()),
        public_url=public_url,
        trusted_proxies=proxies,
        authority=read_authority(front),
        connect_port=None if front is None or front.proxy is None else front.proxy.getsockname()[1],
        strict=strict,
        callback_secret=callback_secret or None,  # an option cannot be None once it has a default
        # Host names are case-insensitive; the server compares them in lower case.
        fetch_from=frozenset(host.lower() for host in fetch_from or ()),
        cache=cache,
        cache_bytes=cache_size << 20,
        scenarios=tuple(scenarios or ()),
        control_key=control_key,
        admin_key=admin_key,
        teams=teams,
        allow_origins=frozenset(origin.lower() for origin in allow_origin or ()),
        loopback=is_loopback(bound),
        limits=limits,
        keep_worlds=keep_worlds,
        keep_jobs=keep_jobs,
        run=os.urandom(RUN_BYTES).hex(),
        make_clock=ManualClock if clock == "manual" else lambda: RealClock(speed),
        state=keeper,
        judge=_judge,
        observe=observe,
        watch=_watch_of(contracts, variant or (), state, front) if watch else None,
    )
    control_is_off = control_key is None and not teams and not options.loopback
    banner = _log_banner if log == "json" else _print_banner

    def ready(url: str, pids: Sequence[int] = ()) -> None:
        announce(url, pids, front.addresses if front is not None else {})
        banner(url, loaded, control_is_off, front)

    if sharing is not None:
        sharing.serve(loaded, options, bound, ready, front)
    else:
        try:
            serve(Fake(loaded, options), bound, ready, front)
        except StateError as error:
            raise UsageError(f"--state: {error}") from None


def _open_front(
    contracts: Sequence[Contract],
    bound: socket.socket,
    secure: TlsOptions,
    public_url: str | None,
    *,
    sharing: Sharing | None,
    state: str | None,
) -> Front:
    """Return the front of a server, with a certificate of the state's authority. Raises UsageError."""
    if sharing is None:
        return open_front(contracts, bound, secure, public_url, kept_certificates(state))
    folder = sharing.certificates() if secure.files is None else None
    return open_front(contracts, bound, secure, public_url, folder, shared=sharing.processes > 1)


def _observers(form: str | None, level: str | None, spans: bool) -> Callable[[Fake], Observed] | None:
    """Return the observers that the options name, or None. Raises UsageError."""
    for option, value, allowed in (("--log", form, FORMS), ("--log-level", level, LEVELS)):
        if value is not None and value not in allowed:
            raise UsageError(f"{option} is {value!r}; allowed: {', '.join(allowed)}")
    if form is None and level is None and not spans:
        return None
    from hobbyhorse.server.observing.start import observe  # noqa: PLC0415 - 4 ms at each start, for these options alone

    try:
        return observe(form, level, spans)
    except ImportError as error:
        raise UsageError(f"--otel needs an extra: pip install 'hobbyhorse[otel]' ({error})") from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _watch_of(
    directory: Path | None, variants: Sequence[str], state: str | None, front: Front | None
) -> Callable[[Fake], Watch]:
    """Return a function that watches the contracts of a directory, or the project's, and the scenarios of a server.

    It also watches the files of a given certificate.
    """
    certificate, sources, watch = (import_module(f"{RELOADING}.{name}") for name in ("certificate", "sources", "watch"))
    # By its name, so that the project's contracts are checked too: whoever watches them changes them.
    chosen = directory or data_directory("contracts")

    def read() -> list[Contract]:
        # A kept job is read again by the contract of its submission, which the state knows only by its digest.
        if state is not None:
            raise watch.ReloadError("a server with --state reads its contracts at its start only; restart it")
        try:
            return load_contracts(chosen, variants)
        except (UsageError, ContractError) as error:
            raise watch.ReloadError(str(error)) from None

    more = () if front is None or front.served.files.authority else (certificate.certificate_source(front.served),)
    return partial(sources.watch_of, contracts=chosen, read_contracts=read, report=inform, complain=complain, more=more)


def _check_time(pace: str, clock: str, speed: float) -> None:
    """Check the options of the panel `Time`. Raises UsageError."""
    if pace not in PACES:
        raise UsageError(f"--pace is {pace!r}; allowed: {', '.join(PACES)}")
    if not 0 < speed < SPEED_BOUND:
        raise UsageError(f"--speed is {speed!r}; allowed: greater than 0, and less than {SPEED_BOUND:g}")
    if clock not in ("real", "manual"):
        raise UsageError(f"--clock is {clock!r}; allowed: real, manual")
    if clock == "manual" and speed != 1:
        raise UsageError(f"--speed is {speed!r}, but a manual clock does not run; omit --speed, or use --clock real")


def _open_state(text: str, seed: int, contracts: Sequence[Contract]) -> Keeper:
    """Open the kept state. Raises UsageError."""
    from hobbyhorse.server.kept.opening import open_state  # noqa: PLC0415 - 60 ms (sqlite3, httpx), for --state alone

    try:
        return open_state(text, seed, contracts)
    except StateError as error:
        raise UsageError(f"--state: {error}") from None


def _judge(contract: Contract, trace: Trace) -> dict[str, Any]:
    """Return the judgement of the client in a trace."""
    from hobbyhorse.conformance.client.report import judged  # noqa: PLC0415 - 10 ms at each start

    return judged(contract, trace)


def _control_key(given: str | None, file: Path | None) -> str | None:
    """Return the control key of the option, of the environment, or of a file. Raises UsageError."""
    if file is None:
        return given
    if given is not None:
        raise UsageError("--control-key-file and --control-key (or HOBBYHORSE_CONTROL_KEY) exclude each other")
    try:
        # Editors and `echo` end a file with a line break, and some editors begin it with a byte order mark.
        return file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--control-key-file: {str(file)!r} cannot be read: {reason}") from None


def _check_sendable(option: str, key: str | None) -> None:
    """Check that a header can carry a key. Raises UsageError."""
    if key is not None and SENDABLE.fullmatch(key) is None:
        # Without the value: the key is a secret, and messages end up in logs.
        raise UsageError(
            f"{option} cannot be sent in a header; allowed: printable ASCII, not blank, no spaces at the ends"
        )


def _teams(file: Path | None, control_key: str | None) -> Mapping[str, Team]:
    """Return the teams of a file by control key. Raises UsageError."""
    if file is None:
        return {}
    try:
        teams = read_teams(file)
    except TeamsError as error:
        raise UsageError(f"--control-keys: {str(file)!r} {error}") from None
    if control_key in teams:
        raise UsageError("--control-key is also the key of a team; allowed: a key of its own, for all worlds")
    return teams


def _check_origins(origins: Sequence[str]) -> None:
    """Check the origins of web pages. Raises UsageError."""
    for origin in origins:
        if origin not in ("*", "null") and origin_of(origin) is None:
            raise UsageError(
                f"--allow-origin is {origin!r}; allowed: *, null, or an origin such as https://example.com"
            )


def _writable_cache(wanted: Path | None) -> Path:
    """Return a directory for videos that can be written to. Complains if it is another one. Raises UsageError.

    Without any place for temporary files nothing can be made: then the cache is that place, too.
    """
    directory = wanted or user_directory()
    reason = unwritable(directory)
    if reason is not None and wanted is not None:
        raise UsageError(f"--cache: {str(directory)!r} cannot be written to: {reason}")
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError:  # no /tmp, a read-only root, or a full disk
        if reason is not None:
            raise UsageError(
                f"no directory can be written to: neither {str(directory)!r} ({reason}) nor one for temporary files; "
                "set --cache or TMPDIR"
            ) from None
        complain(f"no directory for temporary files can be written to; using the cache, {str(directory)!r}")
        tempfile.tempdir = str(directory)
        return directory
    if reason is None:
        return directory
    found = Path(tempfile.mkdtemp(prefix="hobbyhorse-cache-", dir=temporary))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    complain(f"{str(directory)!r} cannot be written to: {reason}; videos are kept in {str(found)!r}; set --cache")
    return found


def _usd(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise UsageError(f"--balance is {text!r}; allowed: a sum in USD, such as 2.50") from None


def _one_of(new: int | None, old: int | None) -> int | None:
    """Return the number of provider workers, given by the new or the old name. Raises UsageError."""
    if new is not None and old is not None:
        raise UsageError("--workers is the old name of --provider-workers; give one of them")
    return old if new is None else new


def _limits(**values: Any) -> Limits:
    """Return the limits after checking each value. Raises UsageError."""
    for name, (allows, allowed) in RULES.items():
        if not allows(values[name]):
            option, kind = OPTIONS.get(name, f"--{name.replace('_', '-')}"), allowed.removesuffix(", or null")
            raise UsageError(f"{option} is {values[name]}; allowed: {kind}")
    return Limits(**values)


def _warn_of_misfits(catalogue: dict[str, Scenario], contracts: Sequence[Contract]) -> None:
    """Warn on stderr about scenarios that apply to no provider, giving the first provider's reason."""
    for scenario in catalogue.values():
        reasons = [misfits(scenario, contract) for contract in contracts]
        if all(reasons):
            # Not an error: the other scenarios can be armed.
            complain(f"the scenario {scenario.name!r} applies to no provider: {reasons[0][0]}")


def _log_banner(url: str, contracts: Sequence[Contract], control_is_off: bool, front: Front | None) -> None:
    fields = {
        "url": url,
        **(front.addresses if front is not None else {}),
        "providers": [contract.key for contract in contracts],
        "control": "off" if control_is_off else "on",
    }
    logging.getLogger("hobbyhorse").info("ready", extra={"fields": fields})


def _print_banner(url: str, contracts: Sequence[Contract], control_is_off: bool, front: Front | None) -> None:
    lines = [f"hobbyhorse is ready at {url}", ""]
    for contract in contracts:
        real = f"https://{contract.hosts[0]}" if contract.hosts else contract.name
        lines.append(f"  {url}/{contract.key:12} stands for {real}")
    if front is not None:
        lines += [
            "",
            f"HTTPS is at {front.addresses['tls_url']}. Clients with fixed hosts use the proxy "
            f"{front.addresses['connect_proxy']}; `hobbyhorse env PROVIDER --url {url} --tls` prints their variables.",
        ]
    if control_is_off:
        lines += [
            "",
            "The control plane (/_mock) is off: other machines can reach this address. --control-key KEY turns it on.",
        ]
    lines += ["", "Each API key has its own world. Press Ctrl-C to stop."]
    typer.echo("\n".join(lines), err=True)
