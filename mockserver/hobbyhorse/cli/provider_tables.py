"""Tables of contracts: one line for each, or everything about one."""

from __future__ import annotations

import json

from rich.console import Console
from rich.markup import escape

from hobbyhorse.cli.tables import plain_table
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract, Model, Situation


def show_providers(contracts: list[Contract]) -> None:
    """Print a line for each provider."""
    table = plain_table("provider", "stands for", "models", "callbacks", "keys")
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
    operations = plain_table("role", "method and path", "situations")
    for role, operation in contract.operations.items():
        own = [_situation(found) for found in operation.situations.values() if _situation(found) not in everywhere]
        operations.add_row(role, f"{operation.method} {operation.path}", ", ".join(own))
    operations.add_row("all of them", "", ", ".join(everywhere))
    console.print(operations)

    stages = plain_table("stage", "class", "leads to", "cancellable", "lasts (s)")
    for stage in contract.graph:
        lasts = "" if stage.terminal else f"{stage.lasts[0]:g} to {stage.lasts[1]:g}"
        stages.add_row(stage.name, stage.kind, ", ".join(stage.next), "yes" if stage.cancellable else "", lasts)
    console.print(stages)

    models = plain_table("model", "task", "parameters", "USD per second", "pictures")
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
