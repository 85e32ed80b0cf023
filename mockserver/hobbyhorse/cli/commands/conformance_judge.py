"""`hobbyhorse conformance judge`: judges a recording by the rules for clients. Starts no server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import typer

from hobbyhorse.cli.options import (
    ContractsOption,
    ProviderOption,
    load_contracts,
    one_of,
)
from hobbyhorse.cli.rule_options import AllowNotObservedOption, RuleOption, chosen_rules
from hobbyhorse.cli.usage import UsageError, complain, reports_internal_errors
from hobbyhorse.cli.verdicts import show_verdicts
from hobbyhorse.conformance.client.report import judged_json
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.unobserved import explained_for
from hobbyhorse.conformance.exit_status import exit_status
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, InternalError, Verdict, judge
from hobbyhorse.contract.folder import data_directory
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.har import HarError, read_har
from hobbyhorse.traces.har_file import open_har
from hobbyhorse.traces.trace import TraceError, read_trace

# A schema error quotes the value that is wrong, which may be a whole recorded body.
MOST_MESSAGE_CHARACTERS = 300


@reports_internal_errors
def command(
    *,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A HAR file (also as .har.zip, .zhar or .har.gz), or a trace as JSON."),
    ],
    provider: ProviderOption,
    base: Annotated[
        str | None, typer.Option(metavar="URL", help="The base URL in the recording, if it is not the provider's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    rule: RuleOption = None,
    allow_not_observed: AllowNotObservedOption = False,
    contracts: ContractsOption = None,
) -> None:
    """Judge the recorded traffic of a client, without a server.

    Exit status 0: no finding; 1: findings; 2: the file shows nothing to judge; 3: internal error; 4: a rule of --rule
    was not observed; 130: interrupted.
    """
    chosen = chosen_rules(rules(), rule)
    contract = one_of(load_contracts(contracts), provider)
    notes: tuple[str, ...] = ()
    try:
        opened = open_har(file)
        document = opened.document
        if isinstance(document, dict) and "log" in document:
            recording = read_har(document, contract, base, opened.attached)
            trace, notes = recording.trace, recording.notes
        else:
            trace = read_trace(_valid_trace(document))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (HarError, TraceError) as error:
        raise UsageError(f"{file}: {error}") from None
    errors: list[InternalError] = []
    verdicts = explained_for(judge(contract, [trace], chosen, errors), AnnotatedTrace(contract, trace))
    if as_json:
        typer.echo(json.dumps({**judged_json(contract, trace, verdicts), "notes": list(notes)}))
    else:
        show_verdicts(verdicts, contract=contract)
    for note in notes:
        typer.echo(note, err=True)
    for failed in errors:
        complain(f"internal error: {failed}; please report it")
    raise typer.Exit(_status(verdicts, errors, () if allow_not_observed else rule or (), bool(rule)))


def _status(
    verdicts: Sequence[Verdict], errors: Sequence[InternalError], required: Sequence[str], selected: bool
) -> int:
    words = {one.rule.id: one.verdict for one in verdicts}
    # With --rule, a rule without evidence has a status of its own.
    nothing = not selected and not errors and not {PASSED, BROKEN}.intersection(words.values())
    if nothing:
        complain("nothing could be judged: the recording shows the subject of no rule")
    return exit_status(
        unjudged=nothing,
        internal_error=bool(errors),
        finding=BROKEN in words.values(),
        not_observed=any(words[rule] == NOT_OBSERVED for rule in required),
    )


def _valid_trace(document: Any) -> Any:
    """Return a document that satisfies the schema of traces. Raises TraceError."""
    schema = json.loads((data_directory("fixtures") / "trace.schema.json").read_text())
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(document))
    # Any other JSON file fails the schema in many places; its message says which two formats are meant.
    if not isinstance(document, dict) or "format" not in document:
        raise TraceError("neither a HAR file, which has a `log`, nor a trace, which has a `format`")
    if error is not None:
        raise TraceError(
            f"neither a HAR file nor a trace: {error.json_path}: {error.message[:MOST_MESSAGE_CHARACTERS]}"
        )
    return document
