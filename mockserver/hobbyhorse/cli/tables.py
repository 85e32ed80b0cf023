"""What the command line shows: tables of contracts, and a demonstration with its progress."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from hobbyhorse.cli.demo import DemoError, DemoRun, run_job
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract, Model, Situation
from hobbyhorse.media.mp4 import Facts
from hobbyhorse.scenarios.scenario import Scenario
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from hobbyhorse.testing.remote import RemoteServer


def show_providers(contracts: list[Contract]) -> None:
    """Print a line for each provider."""
    table = _table("provider", "stands for", "models", "callbacks", "keys")
    for contract in contracts:
        models = "\n".join(model.id for model in contract.models)
        table.add_row(contract.key, contract.name, models, _callbacks(contract), contract.idempotency.mode)
    console = Console(highlight=False)
    console.print(table)
    console.print("keys: what a repeated idempotency key means. `hobbyhorse providers NAME` shows everything.")


def _idempotency(contract: Contract) -> str:
    """Return what a repeated key means, where the key is, and how long it holds."""
    rules = contract.idempotency
    return f"{rules.mode} ({rules.named}, for {rules.life:g} s)" if rules.named else rules.mode


def show_provider(contract: Contract) -> None:
    """Print everything of a provider."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(contract.name)}[/bold] ({contract.key}), {', '.join(contract.hosts)}")
    for document in contract.documents:
        console.print(f"  taken from: {escape(document)}")
    console.print(f"  callbacks: {_callbacks(contract)}; idempotency: {_idempotency(contract)}")

    everywhere = _everywhere(contract)
    operations = _table("role", "method and path", "situations")
    for role, operation in contract.operations.items():
        own = [_situation(found) for found in operation.situations.values() if _situation(found) not in everywhere]
        operations.add_row(role, f"{operation.method} {operation.path}", ", ".join(own))
    operations.add_row("all of them", "", ", ".join(everywhere))
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

    polling = contract.polling
    console.print(
        f"  polling: at least {polling.least_interval:g} s between two, {polling.typical_interval:g} s as a rule, "
        f"for {polling.longest_wait:g} s at most"
    )
    _show_messages(console, contract)
    console.print("[bold]Assumed[/bold], for no document says so:")
    for assumption in contract.assumptions:
        variant = f" (--variant {contract.key}:{assumption.variant})" if assumption.variant else ""
        console.print(f"\n  {escape(assumption.why)}{variant}")
        for place in assumption.at:
            console.print(f"    {escape(place)}", soft_wrap=True)


def _show_messages(console: Console, contract: Contract) -> None:
    """Print what is sent to order a job, and what its answers look like."""
    for operation, model, body in documented_jobs(contract):
        path = operation.path.replace("{model_id}", model.id)
        console.print(f"\n[bold]{operation.method} {escape(path)}[/bold]")
        console.print(escape(json.dumps(body)), soft_wrap=True)
    graph = contract.graph
    for role in ("submit", "status", "result"):
        operation_ = contract.operations.get(role)
        for situation in operation_.situations.values() if operation_ is not None else ():
            ends = situation.stages and all(graph[name].terminal for name in situation.stages)
            if situation.name == "accepted" or ends:
                example = contract.schemas.at(situation.example_at)
                console.print(f"\n[bold]{role}: {situation.name}, {situation.status}[/bold]")
                console.print(escape(json.dumps(example)), soft_wrap=True)
    console.print()


def show_scenarios(found: Sequence[tuple[Scenario, Sequence[str]]]) -> None:
    """Print a line for each scenario: its name, the providers that it fits, the bug that it stands for."""
    console = Console(highlight=False)
    if not console.is_terminal:  # a line each, for grep and the like
        for scenario, fits in found:
            print(f"{scenario.name}\t{', '.join(fits) or 'none'}\t{scenario.why}")
        return
    table = _table("scenario", "fits", "why")
    for scenario, fits in found:
        table.add_row(scenario.name, ", ".join(fits) or "none", scenario.why)
    console.print(table)
    console.print(f"{len(found)} scenarios. `hobbyhorse scenarios NAME` shows everything of one.")


def show_scenario(scenario: Scenario, misfits: Mapping[str, Sequence[str]]) -> None:
    """Print a scenario as its file has it, and which providers it fits, or why it does not."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(scenario.name)}[/bold]: {escape(scenario.why)}")
    shown = {name: value for name, value in scenario.to_json().items() if name != "why"}
    console.print(escape(json.dumps(shown, indent=2)))
    for provider, reasons in misfits.items():
        console.print(escape(f"  {provider}: {'; '.join(reasons) or 'fits'}"))


def _situation(situation: Situation) -> str:
    return f"{situation.name} {situation.status}"


def _everywhere(contract: Contract) -> list[str]:
    """Return the situations that every operation of a contract can be in."""
    each = [
        [_situation(found) for found in operation.situations.values()] for operation in contract.operations.values()
    ]
    return [name for name in each[0] if all(name in names for names in each)]


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
    """Run every documented job against a server on a free port, and print what it showed; an exit status.

    Its clock moves with the polls alone, so that none comes too late to see a stage, however busy the machine is; it
    runs by itself where one answer is held until the job has ended.
    """
    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    failed = 0
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        serving(Fake(contracts, Options(pace="fast", strict=True))) as url,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        console.print(f"serving {', '.join(contract.key for contract in contracts)} at {url}")
        control = RemoteServer(url)
        clock = control.world("demo").clock
        for contract in contracts:
            for operation, model, body in documented_jobs(contract):
                title = f"{contract.key}: {model.id}"
                task = progress.add_task(title, total=None)

                def report(stage: str, task: TaskID = task, title: str = title) -> None:
                    progress.update(task, description=f"{title}: {stage}")

                clock.set_speed(0.0 if operation.role == "submit" else 1.0)
                try:
                    run = run_job(contract, operation, model, body, url, "demo", out, report, clock.advance)
                    _show_run(console, run)
                except DemoError as error:
                    failed += 1
                    console.print(f"\n[bold red]{title}[/bold red]\n  {escape(str(error))}")
                progress.remove_task(task)
        control.stop()
    console.print(f"\n{'failed' if failed else 'done'} in {time.monotonic() - began:.1f} s; the videos are in {out}/")
    return 1 if failed else 0


def _show_run(console: Console, run: DemoRun) -> None:
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
