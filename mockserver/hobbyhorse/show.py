"""What the command line shows: tables of contracts, and a demonstration with its progress."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from hobbyhorse.app import Fake, Options
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.demo import DemoError, Run, documented_jobs, run_job
from hobbyhorse.media.mp4 import Facts
from hobbyhorse.server import serving


def show_providers(contracts: list[Contract]) -> None:
    """Print a line for each provider."""
    table = _table("provider", "name", "hosts", "models", "stages", "callbacks", "idempotency", "assumptions")
    for contract in contracts:
        table.add_row(
            contract.key,
            contract.name,
            ", ".join(contract.hosts),
            "\n".join(model.id for model in contract.models),
            ", ".join(contract.graph.stages),
            _callbacks(contract),
            contract.idempotency.mode,
            str(len(contract.assumptions)),
        )
    Console().print(table)


def show_provider(contract: Contract) -> None:
    """Print everything of a provider."""
    console = Console()
    console.print(f"[bold]{contract.name}[/bold] ({contract.key}), {', '.join(contract.hosts)}")
    for document in contract.documents:
        console.print(f"  taken from: {document}", highlight=False)

    operations = _table("role", "method and path", "situations")
    for role, operation in contract.operations.items():
        situations = ", ".join(f"{name} {situation.status}" for name, situation in operation.situations.items())
        operations.add_row(role, f"{operation.method} {operation.path}", situations)
    console.print(operations)

    stages = _table("stage", "class", "leads to", "cancellable", "lasts (s)")
    for stage in contract.graph:
        lasts = "" if stage.terminal else f"{stage.lasts[0]:g} to {stage.lasts[1]:g}"
        stages.add_row(stage.name, stage.kind, ", ".join(stage.next), "yes" if stage.cancellable else "", lasts)
    console.print(stages)

    models = _table("model", "task", "parameters", "USD per second", "pictures")
    for model in contract.models:
        price = ", ".join(f"{rate} at {value}" for value, rate in model.price.items())
        models.add_row(model.id, model.task, ", ".join(model.parameters), price, _pictures(model))
    console.print(models)

    console.print(f"callbacks: {_callbacks(contract)}; idempotency: {contract.idempotency.mode}", highlight=False)
    assumptions = _table("assumed", "because", "variant")
    for assumption in contract.assumptions:
        assumptions.add_row("\n".join(assumption.at), assumption.why, assumption.variant or "")
    console.print(assumptions)


def _callbacks(contract: Contract) -> str:
    if contract.callbacks is None:
        return "none"
    return "signed" if contract.callbacks.signature else "unsigned"


def _pictures(model: Model) -> str:
    limits = model.images
    if limits is None:
        return ""
    parts = ["/".join(limits.formats)]
    if limits.least_side:
        parts.append(f"side >= {limits.least_side} px")
    if limits.aspect:
        parts.append(f"aspect {limits.aspect[0]:g} to {limits.aspect[1]:g}")
    if limits.most_bytes:
        parts.append(f"<= {limits.most_bytes / 1_048_576:g} MiB")
    return ", ".join(parts)


def _table(*columns: str) -> Table:
    table = _Plain(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


class _Plain(Table):
    """A table whose cells are data, never markup."""

    def add_row(self, *cells: object, **options: Any) -> None:
        """Add a row of plain texts."""
        super().add_row(*(escape(str(cell)) for cell in cells), **options)


def show_demo(contracts: list[Contract], out: Path) -> int:
    """Run every documented job against a server on a free port, and print what it showed; an exit status."""
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    failed = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        serving(Fake(contracts, Options(pace="fast", strict=True))) as url,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        console.print(f"serving {', '.join(contract.key for contract in contracts)} at {url}")
        for contract in contracts:
            for operation, model, body in documented_jobs(contract):
                title = f"{contract.key}: {model.id}"
                task = progress.add_task(title, total=None)

                def report(stage: str, task: TaskID = task, title: str = title) -> None:
                    progress.update(task, description=f"{title}: {stage}")

                try:
                    run = run_job(contract, operation, model, body, url, "demo", out, report)
                    _show_run(console, run)
                except DemoError as error:
                    failed += 1
                    console.print(f"\n[bold red]{title}[/bold red]\n  {escape(str(error))}")
                progress.remove_task(task)
    console.print(f"\n{'failed' if failed else 'done'} in {time.monotonic() - began:.1f} s; the videos are in {out}/")
    return 1 if failed else 0


def _show_run(console: Console, run: Run) -> None:
    console.print(f"\n[bold]{run.contract.name}[/bold]: {run.model.id}")
    for call in run.calls:
        console.print(f"  {call}")
    if run.stages:
        console.print(f"  stages  {' -> '.join(run.stages)}")
    if run.facts is not None:
        console.print(f"  video   {run.path}: {describe(run.facts)}")


def describe(facts: Facts) -> str:
    """Return what is in a video, in one line."""
    rate = float(facts.fps)
    return (
        f"{facts.width}x{facts.height}, {rate:g} fps, {facts.frames} frames, {float(facts.video_seconds):g} s, "
        f"{facts.video_codec}, {facts.audio_codec or 'no audio'}, {facts.nbytes / 1_048_576:.2f} MiB"
    )
