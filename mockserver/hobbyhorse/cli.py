"""The command line; what only one command needs is imported by that command, so that `serve` is ready at once."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hobbyhorse.contract.folder import ContractError, load_all
from hobbyhorse.contract.values import Contract
from hobbyhorse.signatures import DEFAULT_SECRET

app = typer.Typer(add_completion=False, help="A local stand-in for video-generation providers, and its contracts.")
contracts_app = typer.Typer(help="Work on contracts.")
app.add_typer(contracts_app, name="contracts")

USAGE = 2
ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The root of the errors that typer raises for what the user typed, whichever click it brings."""

ContractsOption = Annotated[
    Path | None, typer.Option("--contracts", metavar="DIR", help="Read the contracts from here instead.")
]


class Wrong(Exception):
    """Something that the user has to change: one line, exit status 2."""


def main() -> NoReturn:
    """Run the command line; every usage error is one line on stderr and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except (Wrong, ContractError) as error:
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
) -> None:
    """Serve every provider: one JSON line on stdout when ready, everything else on stderr."""
    # ruff: noqa: PLC0415 - see the module's docstring
    from hobbyhorse.app import Fake, Options
    from hobbyhorse.clock import RealClock
    from hobbyhorse.jobs import PACES
    from hobbyhorse.server import bind
    from hobbyhorse.server import serve as serve_until_stopped
    from hobbyhorse.sources import split

    if pace not in PACES:
        raise Wrong(f"--pace {pace!r}; allowed are {', '.join(PACES)}")
    if not 0 < speed < 1e9:
        raise Wrong(f"--speed {speed!r}; it must be greater than 0")
    if public_url is not None and split(public_url) is None:
        raise Wrong(f"--public-url {public_url!r}; it is http:// or https:// and a host")
    if cache is not None and cache.exists() and not cache.is_dir():
        raise Wrong(f"--cache {str(cache)!r} is no directory")
    if any(not key.strip() for key in api_key or ()):
        raise Wrong("--api-key is blank; a key has at least one character")
    loaded = _load(contracts, variant)
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
        make_clock=lambda: RealClock(speed),
    )
    try:
        bound = bind(host, port)
    except OSError as error:
        raise Wrong(f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free one") from None
    serve_until_stopped(Fake(loaded, options), bound, lambda url: _banner(url, loaded))


def _load(directory: Path | None, variants: list[str] | None = None) -> list[Contract]:
    """Load the contracts; somebody's own are linted first."""
    chosen: dict[str, list[str]] = {}
    for text in variants or ():
        provider, mark, name = text.partition(":")
        if not mark:
            raise Wrong(f"--variant {text!r}; it is PROVIDER:NAME, see `hobbyhorse providers NAME`")
        chosen.setdefault(provider, []).append(name)
    if directory is not None:
        from hobbyhorse.contract.lint import lint_directory

        _, problems = lint_directory(directory)
        if problems:
            more = f" (and {len(problems) - 1} more: hobbyhorse contracts lint {directory})" if problems[1:] else ""
            raise Wrong(f"{problems[0]}{more}")
    return load_all(directory, chosen)


def _banner(url: str, contracts: list[Contract]) -> None:
    lines = [f"hobbyhorse is ready at {url}", ""]
    for contract in contracts:
        real = f"https://{contract.hosts[0]}" if contract.hosts else contract.name
        lines.append(f"  {url}/{contract.key:12} stands for {real}")
    lines += ["", "Any API key opens a world of its own. Ctrl-C stops."]
    print("\n".join(lines), file=sys.stderr, flush=True)


@app.command()
def demo(
    provider: Annotated[str | None, typer.Argument(help="Only this provider.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the videos are saved.")] = Path("demo"),
    contracts: ContractsOption = None,
) -> None:
    """Run the documented job of each provider through a server and keep its video."""
    from hobbyhorse.show import show_demo

    loaded = _load(contracts)
    if provider is not None:
        loaded = [_one(loaded, provider)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Wrong(f"--out {str(out)!r} is no directory to write to: {error.strerror}") from None
    raise typer.Exit(show_demo(loaded, out))


@app.command()
def providers(
    name: Annotated[str | None, typer.Argument(help="Show everything of this provider.")] = None,
    contracts: ContractsOption = None,
) -> None:
    """Show the providers: operations, stages, models, assumptions."""
    from hobbyhorse.show import show_provider, show_providers

    loaded = _load(contracts)
    if name is None:
        show_providers(loaded)
    else:
        show_provider(_one(loaded, name))


@app.command()
def env(
    provider: Annotated[str, typer.Argument(help="The provider.")],
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(help="The API key to use.")] = "test",
    contracts: ContractsOption = None,
) -> None:
    """Print what points a client at the fake: lines for a shell, and what known SDKs take."""
    contract = _one(_load(contracts), provider)
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
    from hobbyhorse.media.video import FilmError, Shot, film

    sides = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", ratio)
    if resolution.upper() not in ("720P", "1080P"):
        raise Wrong(f"--resolution {resolution!r}; allowed are 720P and 1080P")
    if sides is None:
        raise Wrong(f"--ratio {ratio!r}; it is W:H, such as 16:9")
    try:
        pictures = [path.read_bytes() for path in image or ()]
        first = pictures[0] if len(pictures) == 1 else None
        task = "image-to-video" if first else "reference-to-video" if pictures else "text-to-video"
        film(
            Shot(
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
    except (OSError, PictureError, FilmError) as error:
        raise Wrong(str(error)) from None
    typer.echo(out)


@app.command()
def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An MP4.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is in a video, from its bytes alone; exit status 1 if it is no whole MP4."""
    from hobbyhorse.media.mp4 import Mp4Error
    from hobbyhorse.media.mp4 import probe as read

    try:
        facts = read(file)
    except OSError as error:
        raise Wrong(f"{file}: {error.strerror}") from None
    except Mp4Error as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(1) from None
    values = {name: _plain(value) for name, value in asdict(facts).items()}
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        typer.echo(f"{name.replace('_', ' '):20} {value}")


def _plain(value: Any) -> Any:
    """Return a value as JSON can say it; a fraction becomes a number."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return list(value) if isinstance(value, tuple) else value


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


def _one(contracts: list[Contract], name: str) -> Contract:
    found = next((contract for contract in contracts if contract.key == name), None)
    if found is None:
        raise Wrong(f"no provider {name!r}; there are {', '.join(contract.key for contract in contracts)}")
    return found
