"""`hobbyhorse demo`: run the documented job of each provider against a server in this process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from hobbyhorse.cli.demo_run import DemoError, DemoRun, run_job
from hobbyhorse.cli.options import ContractsOption, load_contracts, one_of
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract
from hobbyhorse.media.probe import Facts
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from hobbyhorse.testing.remote import RemoteServer

# The API key of the jobs. A key identifies its world and therefore the clock that the polls move.
WORLD = "demo"


def command(
    provider: Annotated[str | None, typer.Argument(help="Only this provider.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Save the videos in DIR.")] = Path("demo"),
    contracts: ContractsOption = None,
) -> None:
    """Run the documented job of each provider against a server and save its video."""
    loaded = load_contracts(contracts)
    if provider is not None:
        loaded = [one_of(loaded, provider)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: cannot create the directory {str(out)!r}: {error.strerror}") from None
    raise typer.Exit(_show_demo(loaded, out))


def _show_demo(contracts: list[Contract], out: Path) -> int:
    """Run every documented job against a server on a free port, print each run, and return the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    failed = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        # Strict, so that a response that violates its contract fails the demo.
        serving(Fake(contracts, Options(pace="fast", strict=True))) as url,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        console.print(f"serving {', '.join(contract.key for contract in contracts)} at {url}")
        control = RemoteServer(url)
        clock = control.world(WORLD).clock
        for contract in contracts:
            for operation, model, body in documented_jobs(contract):
                title = f"{contract.key}: {model.id}"
                task = progress.add_task(title, total=None)

                def show_stage(stage: str, task: TaskID = task, title: str = title) -> None:
                    progress.update(task, description=f"{title}: {stage}")

                # Only the polls move the clock, so that none comes too late to see a stage, however busy the machine
                # is. A synchronous operation has no polls: its response waits for the end, and the clock has to run.
                clock.set_speed(0.0 if operation.role == "submit" else 1.0)
                try:
                    run = run_job(
                        contract,
                        operation,
                        model,
                        body,
                        url,
                        key=WORLD,
                        out=out,
                        show_stage=show_stage,
                        wait=clock.advance,
                    )
                    _show_run(console, run)
                except DemoError as error:
                    failed += 1
                    console.print(f"\n[bold red]{title}[/bold red]\n  {escape(str(error))}")
                progress.remove_task(task)
        control.stop()
    seconds = time.monotonic() - started
    console.print(f"\n{'failed' if failed else 'done'} in {seconds:.1f} s; the videos are in {out}/")
    return 1 if failed else 0


def _show_run(console: Console, run: DemoRun) -> None:
    console.print(f"\n[bold]{run.contract.name}[/bold]: {run.model.id}")
    for call in run.calls:
        console.print(f"  {call}")
    if run.stages:
        console.print(f"  stages  {' -> '.join(run.stages)}")
    if run.facts is not None:
        console.print(f"  video   {run.path}: {_describe(run.facts)}")


def _describe(facts: Facts) -> str:
    """Return the properties of a video in one line."""
    rate = float(facts.fps)
    return (
        f"{facts.width}x{facts.height}, {rate:g} fps, {facts.frames} frames, {float(facts.video_seconds):g} s, "
        f"{facts.video_codec}, {facts.audio_codec or 'no audio'}, {facts.nbytes / 1_048_576:.2f} MiB"
    )
