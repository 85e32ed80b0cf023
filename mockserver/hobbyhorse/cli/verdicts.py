"""Verdicts on the terminal, in the same form for clients and servers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape

from hobbyhorse.conformance.client.cases import case_of
from hobbyhorse.conformance.client.report import file_names, preconditions
from hobbyhorse.conformance.examples import example_for
from hobbyhorse.conformance.impact import Amount, amounts_of, costs_of, grouped, headline
from hobbyhorse.conformance.judge import NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Lesson, Verdict
from hobbyhorse.conformance.promise import promise_at
from hobbyhorse.conformance.report import open_verdicts
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.values import Contract

COLOURS = {PASSED: "green", NOT_OBSERVED: "yellow", NOT_APPLICABLE: "dim"}
# Messages printed of one finding: an endpoint that is wrong everywhere still fits on a screen, and the report has all.
MOST_MESSAGES = 5
# Columns of a text, however narrow the terminal is.
LEAST_WIDTH = 20


def show_verdicts(
    verdicts: Sequence[Verdict],
    accepted: Mapping[str, str] | None = None,
    side: str = "client",
    *,
    contract: Contract | None = None,
    replay: Callable[[str], str] | None = None,
    head: str | None = None,
    amounts: Mapping[str, Amount] | None = None,
) -> None:
    """Print the worst cost, the findings that are not accepted by their harm, the lessons, and the other rules.

    `side` is the judged side, "client" or "server"; each message begins with it. With the `contract`, findings have
    their costs, examples and quotes. `replay` returns the command that replays a finding, given the name of its file.
    `head` and `amounts` replace the first line and the costs.
    """
    broken = open_verdicts(verdicts, accepted or {})
    names = {id(finding): name for one in verdicts for name, finding in file_names(one)}
    costs = costs_of([contract], broken) if contract is not None else {}
    amounts = amounts or amounts_of(costs)
    console = Console(highlight=False)
    if broken:
        console.print(f"[bold red]{escape(head or headline(broken, costs))}[/bold red]")
    for group in grouped(broken, amounts):
        console.print(f"\n[bold]{group.title}[/bold]")
        for one in group.verdicts:
            _show_rule(console, one, amounts.get(one.rule.id))
            for finding in one.findings:
                _show_finding(console, finding, side, contract)
                # Only the client suite has files to replay.
                if replay is not None:
                    console.print(f"  again: {escape(replay(names[id(finding)]))}", soft_wrap=True)
            _show_fix(console, one.rule, contract)
    _show_lessons(console, [lesson for one in verdicts for lesson in one.lessons])
    if broken:
        console.print()
    _show_passed(console, verdicts)
    _show_unobserved(console, verdicts)


def _print(console: Console, text: str, style: str = "", indent: int = 2) -> None:
    """Print a text with every line indented, so that the rules stand out. A long word, such as a URL, stays whole."""
    width = max(console.width - indent, LEAST_WIDTH)
    for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False):
        console.print(" " * indent + line, style=style, markup=False, soft_wrap=True)


def _show_rule(console: Console, one: Verdict, amount: Amount | None) -> None:
    rule = one.rule
    # A server, and a recording, are one trace.
    often = f"; broken in {one.times_broken} of {one.observed} runs" if one.observed > 1 else ""
    rank = f"[dim]{rule.level}, {rule.severity}{often}[/dim]"
    console.print(f"[bold red]{rule.id}[/bold red] {escape(rule.name)} {rank}")
    _print(console, rule.says)
    if amount is not None:
        _print(console, f"cost: {amount.clause}", "red")


def _show_fix(console: Console, rule: Rule, contract: Contract | None) -> None:
    if rule.fix:
        _print(console, f"fix: {rule.fix}", "green")
    example = example_for(rule, contract) if contract is not None else None
    if example is not None:
        console.print(f"  [dim]done right: {escape(str(example))}[/dim]", soft_wrap=True)


def _show_passed(console: Console, verdicts: Sequence[Verdict]) -> None:
    ids = [one.rule.id for one in verdicts if one.verdict == PASSED]
    if ids:
        console.print(f"[{COLOURS[PASSED]}]passed: {', '.join(ids)}[/{COLOURS[PASSED]}]")


def _show_unobserved(console: Console, verdicts: Sequence[Verdict]) -> None:
    """Print the rules without evidence, one line for each reason."""
    ids: dict[tuple[str, str | None], list[str]] = {}
    for word in (NOT_OBSERVED, NOT_APPLICABLE):
        for one in verdicts:
            if one.verdict == word:
                ids.setdefault((word, one.why), []).append(one.rule.id)
    for (word, why), named in ids.items():
        reason = f": {escape(why)}" if why is not None else ""
        words = f"{word.replace('-', ' ')}: {', '.join(named)}{reason}"
        console.print(f"[{COLOURS[word]}]{words}[/{COLOURS[word]}]")


def _show_finding(console: Console, finding: Finding, side: str, contract: Contract | None) -> None:
    # Only a client is run, each time against another server.
    if finding.trace.runs:
        doing = f" (during {finding.during})" if finding.during is not None else ""
        _print(console, f"server: {case_of(finding.trace)}{doing}")
        for sentence in preconditions(finding):
            _print(console, sentence, "yellow")
    for breach in finding.breaches[:MOST_MESSAGES]:
        _print(console, f"{side}: {breach.message}")
        for place in breach.places[:1]:  # one is enough to find the promise in the contract
            quoted = str(promise_at(contract, place)) if contract is not None else place
            _print(console, quoted, "dim", 4)
    if len(finding.breaches) > MOST_MESSAGES:
        console.print(f"  [dim]and {len(finding.breaches) - MOST_MESSAGES} more[/dim]")


def _show_lessons(console: Console, lessons: Sequence[Lesson]) -> None:
    # Apart from the findings: the contract only assumes these facts, so the endpoint is not at fault.
    if lessons:
        console.print("\n[bold]lessons:[/bold] assumptions of the contract that this endpoint contradicts")
    for lesson in lessons:
        console.print(f"  [yellow]{lesson.rule}[/yellow] {escape(lesson.message)}")
        console.print(f"    [dim]{escape(', '.join(lesson.places))}: {escape(lesson.why)}[/dim]")


def show_baseline(console: Console, accepted: Mapping[str, str], stale: Sequence[str]) -> None:
    """Print the reason for each accepted finding, and the stale entries of the baseline."""
    for rule, why in accepted.items():
        console.print(f"[yellow]{rule} is accepted:[/yellow] {escape(why)}")
    for rule in stale:
        console.print(f"[red]{rule} is stale: it is in the baseline and was not found; remove it[/red]")


def summed(broken: int, stale: int, nothing: str) -> str:
    """Return the numbers of broken rules and stale entries as markup; `nothing` if both are 0."""
    bad = [f"{broken} rule{'s' if broken != 1 else ''} broken"] if broken else []
    bad += [f"{stale} stale in the baseline"] if stale else []
    return f"[red]{', '.join(bad)}[/red]" if bad else f"[green]{nothing}[/green]"
