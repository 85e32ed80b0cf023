"""The command line; what only one command needs is imported by that command, so that `serve` is ready at once."""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hobbyhorse.cli import conformance_client as conformance_cli
from hobbyhorse.cli import proxy as proxy_cli
from hobbyhorse.cli.usage import ContractsOption, UsageError, load_contracts, one_of
from hobbyhorse.contract.folder import ContractError
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract

if TYPE_CHECKING:
    from hobbyhorse.scenarios.scenario import Scenario
    from hobbyhorse.traces.trace import Trace
    from hobbyhorse.worlds.limits import Limits

app = typer.Typer(add_completion=False, help="A local stand-in for video-generation providers, and its contracts.")
contracts_app = typer.Typer(help="Work on contracts.")
app.add_typer(contracts_app, name="contracts")
app.add_typer(conformance_cli.app, name="conformance")
app.command("rules")(conformance_cli.rules)
app.command("proxy")(proxy_cli.proxy)

USAGE = 2
ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The root of the errors that typer raises for what the user typed, whichever click it brings."""

ScenariosOption = Annotated[
    list[Path] | None,
    typer.Option("--scenarios", metavar="DIR", help="Take the scenarios of this directory, too (repeatable)."),
]


def main() -> NoReturn:
    """Run the command line; every usage error is one line on stderr and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except (UsageError, ContractError) as error:
        status = _complain(str(error))
    except ClickError as error:
        status = _complain(getattr(error, "format_message", error.__str__)() or "no command; --help lists them")
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    raise SystemExit(status if isinstance(status, int) else 0)


def _complain(message: str) -> int:
    print(f"hobbyhorse: {' '.join(message.split())}", file=sys.stderr)
    return USAGE


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hobbyhorse {version('hobbyhorse')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A local stand-in for video-generation providers, and its contracts."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.")] = 8000,
    pace: Annotated[
        str, typer.Option(help="How long a stage lasts: instant (no time), fast (tenths of a second), realistic.")
    ] = "fast",
    clock: Annotated[
        str, typer.Option(help="real: it runs; manual: it stands until the control plane moves it.")
    ] = "real",
    speed: Annotated[float, typer.Option(help="How many times faster than real time the clock runs.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The seed of everything that is drawn.")] = 0,
    api_key: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Accept only this key (repeatable); any, if not given.")
    ] = None,
    contracts: ContractsOption = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="PROVIDER:NAME", help="Take another reading of the documents (repeatable)."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The address that answers name, where clients see another one.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Hold every answer of ours against the contract.")] = False,
    callback_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="What callbacks are signed with; empty: not signed.")
    ] = DEFAULT_SECRET,
    fetch_from: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Fetch pictures from this host too (repeatable); * for any public one."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep videos here instead of in the user's cache directory.")
    ] = None,
    cache_size: Annotated[
        int, typer.Option(metavar="MB", min=1, help="Keep at most so many megabytes of videos.")
    ] = 1024,
    scenarios: ScenariosOption = None,
    control_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Open the control plane to those who send this as X-Mock-Control-Key."),
    ] = None,
    requests_per_second: Annotated[
        float | None, typer.Option(metavar="N", help="Refuse a key's requests beyond this rate.")
    ] = None,
    concurrent_jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse a job of a key that has so many under way.")
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Work on so many jobs of a key at a time.")] = None,
    rivals: Annotated[
        int, typer.Option(metavar="N", help="Have so many jobs of other customers come and go in the queue.")
    ] = 0,
    balance: Annotated[str | None, typer.Option(metavar="USD", help="Refuse a key's jobs beyond this sum.")] = None,
) -> None:
    """Serve every provider: one JSON line on stdout when ready, everything else on stderr."""
    # ruff: noqa: PLC0415 - see the module's docstring
    from hobbyhorse.clock.clock import ManualClock, RealClock
    from hobbyhorse.server.app import Fake, Options
    from hobbyhorse.server.files.image_sources import split
    from hobbyhorse.server.run import bind
    from hobbyhorse.server.run import serve as serve_until_stopped
    from hobbyhorse.worlds.jobs import PACES

    if pace not in PACES:
        raise UsageError(f"--pace {pace!r}; allowed are {', '.join(PACES)}")
    if not 0 < speed < 1e9:
        raise UsageError(f"--speed {speed!r}; it must be greater than 0")
    if clock not in ("real", "manual"):
        raise UsageError(f"--clock {clock!r}; allowed are real, manual")
    if clock == "manual" and speed != 1:
        raise UsageError(f"--speed {speed!r} is for a clock that runs; --clock manual stands until it is moved")
    if public_url is not None and split(public_url) is None:
        raise UsageError(f"--public-url {public_url!r}; it is http:// or https:// and a host")
    if cache is not None and cache.exists() and not cache.is_dir():
        raise UsageError(f"--cache {str(cache)!r} is no directory")
    if any(not key.strip() for key in api_key or ()):
        raise UsageError("--api-key is blank; a key has at least one character")
    if control_key is not None and re.fullmatch(r"[!-~]+(?: +[!-~]+)*", control_key) is None:
        raise UsageError("--control-key cannot be sent in a header; it is ASCII, not blank, without spaces around it")
    limits = _limits(
        requests_per_second=requests_per_second,
        concurrent_jobs=concurrent_jobs,
        workers=workers,
        rivals=rivals,
        balance=_usd(balance),
    )
    loaded = load_contracts(contracts, variant)
    if scenarios:
        _warn_of_misfits(_load_scenarios(scenarios), loaded)
    try:
        bound = bind(host, port)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free one"
        ) from None
    options = Options(
        pace=pace,
        seed=seed,
        api_keys=frozenset(api_key or ()),
        public_url=public_url,
        strict=strict,
        callback_secret=callback_secret or None,
        fetch_from=frozenset(host.lower() for host in fetch_from or ()),
        cache=cache,
        cache_bytes=cache_size << 20,
        scenarios=tuple(scenarios or ()),
        control_key=control_key,
        loopback=_is_loopback(bound),
        limits=limits,
        make_clock=ManualClock if clock == "manual" else lambda: RealClock(speed),
        judge=_judge,
    )
    off = control_key is None and not options.loopback
    serve_until_stopped(Fake(loaded, options), bound, lambda url: _banner(url, loaded, off))


def _judge(contract: Contract, trace: Trace) -> dict[str, Any]:
    """Judge the client that a trace is about; what judges is loaded when it is first asked for."""
    from hobbyhorse.conformance.client.report import judged

    return judged(contract, trace)


def _is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches a socket; by its address, for a name may mean anything."""
    try:
        return ip_address(bound.getsockname()[0]).is_loopback
    except ValueError:
        return False


def _usd(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise UsageError(f"--balance {text!r}; it is a sum in USD, such as 2.50") from None


def _limits(**values: Any) -> Limits:
    """Return the limits that the options say."""
    from hobbyhorse.worlds.limits import RULES, Limits

    for name, (allows, allowed) in RULES.items():
        if not allows(values[name]):
            option, kind = f"--{name.replace('_', '-')}", allowed.removesuffix(", or null")
            raise UsageError(f"{option} {values[name]}; it is {kind}")
    return Limits(**values)


def _warn_of_misfits(catalogue: dict[str, Scenario], contracts: list[Contract]) -> None:
    """Say on stderr which scenarios no provider can play, and why the first one cannot."""
    from hobbyhorse.scenarios.scenario import misfits

    for scenario in catalogue.values():
        reasons = [misfits(scenario, contract) for contract in contracts]
        if all(reasons):
            print(f"hobbyhorse: no provider can play the scenario {scenario.name!r}: {reasons[0][0]}", file=sys.stderr)


def _load_scenarios(directories: list[Path] | None) -> dict[str, Scenario]:
    """Load the project's scenarios and those of other directories."""
    from hobbyhorse.scenarios.scenario import ScenarioError, load_catalogue

    try:
        return dict(load_catalogue(directories or ()))
    except ScenarioError as error:
        raise UsageError(str(error)) from None


def _banner(url: str, contracts: list[Contract], off: bool) -> None:
    lines = [f"hobbyhorse is ready at {url}", ""]
    for contract in contracts:
        real = f"https://{contract.hosts[0]}" if contract.hosts else contract.name
        lines.append(f"  {url}/{contract.key:12} stands for {real}")
    if off:
        lines += [
            "",
            "The control plane (/_mock) is off: other machines reach this address; --control-key KEY opens it.",
        ]
    lines += ["", "Any API key opens a world of its own. Ctrl-C stops."]
    print("\n".join(lines), file=sys.stderr, flush=True)


@app.command()
def demo(
    provider: Annotated[str | None, typer.Argument(help="Only this provider.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the videos are saved.")] = Path("demo"),
    contracts: ContractsOption = None,
) -> None:
    """Run the documented job of each provider through a server and keep its video."""
    from hobbyhorse.cli.tables import show_demo

    loaded = load_contracts(contracts)
    if provider is not None:
        loaded = [one_of(loaded, provider)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} is no directory to write to: {error.strerror}") from None
    raise typer.Exit(show_demo(loaded, out))


@app.command()
def providers(
    name: Annotated[str | None, typer.Argument(help="Show everything of this provider.")] = None,
    contracts: ContractsOption = None,
) -> None:
    """Show the providers: operations, stages, models, assumptions."""
    from hobbyhorse.cli.tables import show_provider, show_providers

    loaded = load_contracts(contracts)
    if name is None:
        show_providers(loaded)
    else:
        show_provider(one_of(loaded, name))


@app.command()
def scenarios(
    name: Annotated[str | None, typer.Argument(help="Show everything of this scenario.")] = None,
    directories: ScenariosOption = None,
    provider: Annotated[
        str | None, typer.Option(metavar="P", help="Only what fits this provider; with a name, only this provider.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    contracts: ContractsOption = None,
) -> None:
    """Show the scenarios that can be armed: what each stands for, and the providers that it fits."""
    from hobbyhorse.scenarios.scenario import ScenarioError, find, misfits

    loaded = load_contracts(contracts)
    if provider is not None:
        loaded = [one_of(loaded, provider)]
    catalogue = _load_scenarios(directories)
    if name is not None:
        try:
            scenario = find(catalogue, name)
        except ScenarioError as error:
            raise UsageError(f"{error}; `hobbyhorse scenarios` lists them all") from None
        _tell_scenario(scenario, {contract.key: misfits(scenario, contract) for contract in loaded}, as_json)
        return
    fits = {
        scenario: [contract.key for contract in loaded if not misfits(found, contract)]
        for scenario, found in catalogue.items()
    }
    found = [(catalogue[scenario], keys) for scenario, keys in fits.items() if keys or provider is None]
    if as_json:
        listed = [{"name": scenario.name, "why": scenario.why, "providers": keys} for scenario, keys in found]
        typer.echo(json.dumps({"scenarios": listed}))
        return
    from hobbyhorse.cli.tables import show_scenarios

    show_scenarios(found)


def _tell_scenario(scenario: Scenario, reasons: dict[str, list[str]], as_json: bool) -> None:
    if as_json:
        facts = {"name": scenario.name, "why": scenario.why, "scenario": scenario.to_json(), "misfits": reasons}
        fits = [provider for provider, found in reasons.items() if not found]
        typer.echo(json.dumps({**facts, "providers": fits}))
        return
    from hobbyhorse.cli.tables import show_scenario

    show_scenario(scenario, reasons)


@app.command()
def health(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the server is, such as http://127.0.0.1:8000.")],
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long it may take to answer.")] = 2.0,
) -> None:
    """Ask whether a server is up; exit status 0 if it says so, else 1. For probes that have no curl."""
    from hobbyhorse.server.files.image_sources import split
    from hobbyhorse.server.health import failure

    if split(url) is None:
        raise UsageError(f"{url!r} is no address of a server; it is http:// or https:// and a host")
    if not 0 < timeout <= 3600:
        raise UsageError(f"--timeout {timeout!r}; it is a number of seconds greater than 0, and at most 3600")
    if (reason := failure(url, timeout)) is not None:
        typer.echo(f"{url}: {' '.join(reason.split())}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{url}: ok")


@app.command()
def env(
    provider: Annotated[str, typer.Argument(help="The provider.")],
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(help="The API key to use.")] = "test",
    contracts: ContractsOption = None,
) -> None:
    """Print what points a client at the fake: lines for a shell, and what known SDKs take."""
    contract = one_of(load_contracts(contracts), provider)
    for variable, value in contract.environment(url, key, DEFAULT_SECRET).items():
        typer.echo(f"export {variable}={shlex.quote(value)}")
    values = {"url": f"{url.rstrip('/')}/{contract.key}", "key": key, "secret": DEFAULT_SECRET}
    for client in contract.clients:
        if client.code:
            typer.echo(f"# {client.name}: {client.code.format(**values)}")


@app.command()
def video(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the video is written.")],
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The first frame; several are the references of reference-to-video."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="Without a picture, the scene is drawn from this and the seed.")] = "",
    duration: Annotated[int, typer.Option(min=1, max=60, help="Seconds.")] = 5,
    resolution: Annotated[str, typer.Option(help="720P or 1080P.")] = "1080P",
    ratio: Annotated[str, typer.Option(metavar="W:H", help="The sides, where no first frame decides.")] = "16:9",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    watermark: Annotated[bool, typer.Option(help="Write Happy Horse into the lower right corner.")] = False,
) -> None:
    """Make a video as the server does, without a server."""
    from hobbyhorse.media.picture import PictureError
    from hobbyhorse.media.video import VideoError, VideoSpec, film

    sides = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", ratio)
    if resolution.upper() not in ("720P", "1080P"):
        raise UsageError(f"--resolution {resolution!r}; allowed are 720P and 1080P")
    if sides is None:
        raise UsageError(f"--ratio {ratio!r}; it is W:H, such as 16:9")
    try:
        pictures = [path.read_bytes() for path in image or ()]
        first = pictures[0] if len(pictures) == 1 else None
        task = "image-to-video" if first else "reference-to-video" if pictures else "text-to-video"
        film(
            VideoSpec(
                task=task,
                first_frame=first,
                references=() if first else tuple(pictures),
                prompt=prompt,
                tier=int(resolution[:-1]),
                ratio=None if first else (int(sides[1]), int(sides[2])),
                seconds=duration,
                seed=seed,
                watermark=watermark,
                comment=f"{task}, {resolution.upper()}, {duration} s, seed {seed}",
            ),
            out,
        )
    except (OSError, PictureError, VideoError) as error:
        raise UsageError(str(error)) from None
    typer.echo(out)


@app.command()
def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An MP4.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is in a video, from its bytes alone; exit status 1 if it is no whole MP4."""
    from hobbyhorse.media.mp4 import Mp4Error, facts_json
    from hobbyhorse.media.mp4 import probe as read

    try:
        facts = read(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except Mp4Error as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from None
    values = facts_json(facts)
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        typer.echo(f"{name.replace('_', ' '):20} {value}")


@contracts_app.command("lint")
def lint_contracts(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="A directory of providers.")] = None,
) -> None:
    """Check contracts for everything that contracts/README.md demands."""
    from hobbyhorse.contract.lint import lint_directory

    folders, problems = lint_directory(directory)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(folders)} contract{'s' if len(folders) != 1 else ''} without a problem")
