"""Print contracts as tables: one line for each contract, or all details of one contract."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from hobbyhorse.cli.tables import plain_table
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract, Model, Situation


def show_providers(contracts: Sequence[Contract]) -> None:
    """Print one line for each provider."""
    table = plain_table("provider", "stands for", "models", "callbacks", "idempotency")
    for contract in contracts:
        models = "\n".join(model.id for model in contract.models)
        table.add_row(contract.key, contract.name, models, _callbacks(contract), contract.idempotency.mode)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "idempotency: the effect of a repeated idempotency key. "
        "`hobbyhorse providers NAME` shows everything about one provider."
    )


def show_provider(contract: Contract) -> None:
    """Print all details of a provider."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(contract.name)}[/bold] ({contract.key}), {', '.join(contract.hosts)}")
    for document in contract.documents:
        console.print(f"  source: {escape(document)}")
    console.print(f"  callbacks: {_callbacks(contract)}; idempotency: {_idempotency(contract)}")

    # Shared refusals are printed once; repeated in each row, they would hide the few that differ.
    shared = _shared_situations(contract)
    operations = plain_table("role", "method and path", "situations")
    for role, operation in contract.operations.items():
        own = [_situation(found) for found in operation.situations.values() if _situation(found) not in shared]
        operations.add_row(role, f"{operation.method} {operation.path}", ", ".join(own))
    operations.add_row("every role", "", ", ".join(shared))
    console.print(operations)

    stages = plain_table("stage", "class", "next", "cancellable", "duration (s)")
    for stage in contract.graph:
        duration = "" if stage.terminal else f"{stage.lasts[0]:g} to {stage.lasts[1]:g}"
        stages.add_row(stage.name, stage.kind, ", ".join(stage.next), "yes" if stage.cancellable else "", duration)
    console.print(stages)

    models = plain_table("model", "task", "parameters", "USD per second", "input images")
    for model in contract.models:
        price = ", ".join(f"{rate} at {value}" for value, rate in model.price.items())
        models.add_row(model.id, model.task, ", ".join(model.parameters), price, _images(model))
    console.print(models)

    polling = contract.polling
    console.print(
        f"  polling: typically every {polling.typical_interval:g} s, never faster than every "
        f"{polling.least_interval:g} s, for at most {polling.longest_wait:g} s"
    )
    _show_examples(console, contract)
    console.print("[bold]Assumptions[/bold], which no document confirms:")
    for assumption in contract.assumptions:
        variant = f" (--variant {contract.key}:{assumption.variant})" if assumption.variant else ""
        console.print(f"\n  {escape(assumption.why)}{variant}")
        for place in assumption.at:
            console.print(f"    {escape(place)}", soft_wrap=True)


def _show_examples(console: Console, contract: Contract) -> None:
    """Print an example submission for each documented job, and the responses that accept and end a job."""
    for operation, model, body in documented_jobs(contract):
        path = operation.path.replace("{model_id}", model.id)
        console.print(f"\n[bold]{operation.method} {escape(path)}[/bold]")
        console.print(escape(json.dumps(body)), soft_wrap=True)  # unbroken, so that it can be copied
    for role in ("submit", "status", "result"):
        found = contract.operations.get(role)
        for situation in found.situations.values() if found is not None else ():
            ends = situation.stages and all(contract.graph[name].terminal for name in situation.stages)
            if situation.name == "accepted" or ends:
                example = contract.schemas.at(situation.example_at)
                console.print(f"\n[bold]{role}: {situation.name}, {situation.status}[/bold]")
                shown = "no content" if situation.empty else json.dumps(example)
                console.print(escape(shown), soft_wrap=True)
    console.print()


def _situation(situation: Situation) -> str:
    return f"{situation.name} {situation.status}"


def _shared_situations(contract: Contract) -> list[str]:
    """Return the situations that every operation of a contract has."""
    each = [
        [_situation(found) for found in operation.situations.values()] for operation in contract.operations.values()
    ]
    return [name for name in each[0] if all(name in names for names in each)]


def _callbacks(contract: Contract) -> str:
    if contract.callbacks is None:
        return "none"
    return "signed" if contract.callbacks.signature else "unsigned"


def _idempotency(contract: Contract) -> str:
    """Return the effect of a repeated key, the place of the key, and its lifetime."""
    rules = contract.idempotency
    return f"{rules.mode} ({rules.named}, for {rules.life:g} s)" if rules.named else rules.mode


def _images(model: Model) -> str:
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
