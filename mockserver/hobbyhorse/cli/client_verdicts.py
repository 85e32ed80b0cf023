"""The output of the client suite: its report, the verdicts, and the summary of its runs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.cli.verdicts import show_baseline, show_verdicts, summed
from hobbyhorse.conformance.client.html_report import write_page
from hobbyhorse.conformance.client.report import replay_command, write_report
from hobbyhorse.conformance.client.results import Result
from hobbyhorse.conformance.impact import amounts_of, costs_of, headline
from hobbyhorse.conformance.judge import NOT_OBSERVED, PASSED, InternalError
from hobbyhorse.conformance.report import open_verdicts
from hobbyhorse.contract.values import Contract


def show_result(result: Result, contract: Contract, report: Path | None, second: Contract | None = None) -> None:
    """Print the verdicts and the summary of the suite. `second` is the provider that the client falls back to."""
    replay = partial(replay_command, result, folder=report) if report is not None else None
    contracts = [contract, *([second] if second is not None else [])]
    broken = open_verdicts(result.verdicts, result.accepted)
    costs = costs_of(contracts, broken)
    amounts, head = amounts_of(costs), headline(broken, costs)
    show_verdicts(result.verdicts, result.accepted, contract=contract, replay=replay, amounts=amounts, head=head)
    console = Console(highlight=False)
    coverage = result.coverage
    rate = result.runs / result.seconds if result.seconds else 0.0
    console.print(
        f"\n{result.runs} runs in {result.seconds:.1f} s ({rate:.1f} a second), seed {result.seed}; "
        f"{coverage.met} of {coverage.total} single faults reached"
    )
    if coverage.untried:
        stopped = result.interrupted or bool(result.errors)
        why = "the suite was stopped" if stopped else "the runs were used up; --runs N allows more"
        console.print(f"[yellow]{len(coverage.untried)} of them were not tried, because {why}[/yellow]")
    for name, count in result.unjudged.items():
        runs = "a run has" if count == 1 else f"{count} runs have"
        uses = f"the client used {name}, which virtual time does not cover; try --real-time"
        console.print(f"[yellow]{runs} no verdict: {escape(uses)}[/yellow]")
    for note in result.notes:
        console.print(f"[yellow]{escape(note)}[/yellow]")
    if result.unfit is not None:
        console.print(f"[red]the client could not be tested further: {escape(result.unfit)}[/red]")
    if result.interrupted:
        console.print("[red]interrupted: only the runs until then were judged[/red]")
    for error in result.errors:
        console.print(f"[bold red]internal error:[/bold red] {escape(str(error))}")
    if result.errors:
        where = str(report / "internal-error.txt") if report is not None else "the report (--report DIR)"
        console.print(f"[red]please report it; the traceback is in {escape(where)}[/red]")
    show_baseline(console, result.accepted, result.stale)
    if report is not None:
        console.print(f"report: {report / 'index.html'}")
    words = [one.verdict for one in result.verdicts]
    rest = f"{words.count(PASSED)} passed, {words.count(NOT_OBSERVED)} not observed"
    rest = f"{len(result.accepted)} accepted, {rest}" if result.accepted else rest
    console.print(f"{summed(len(result.broken), len(result.stale), 'no finding')}, {rest}")


def written(result: Result, folder: Path, *contracts: Contract) -> Result:
    """Write the report, and return the result with the internal error of writing it, if any. Raises UsageError.

    `contracts` belong to the client's providers.
    """
    try:
        write_report(result, folder, *contracts)
        try:
            write_page(result, folder, *contracts)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # The page is the most complex part; the other files are written again, with this error.
            result = replace(result, errors=(*result.errors, InternalError.of("writing index.html", error)))
            write_report(result, folder, *contracts)
    except OSError as error:
        raise UsageError(f"--report: {str(folder)!r} cannot be written: {error.strerror}") from None
    return result
