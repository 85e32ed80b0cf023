"""Rules about a server that is right and different: the client ends as with the usual server. Knows no server.

Each rule has one sentence for one form of variation, and judges the runs whose variations all have that form. The last
rule judges runs with several forms; the search gives it only forms that the client survives alone.

A run is compared with the run of the same case without the variations (`Trace.plain`). Without that, only a case
without faults is judged: its job succeeds, so the client must succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hobbyhorse.conformance.client.cases import ONCE
from hobbyhorse.conformance.client.variations import Varied, has_faults, variations
from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, Breach, Evidence, rule
from hobbyhorse.scenarios.faults.wire import BODY_LENGTH, CODED, HEADER_NAMES
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Outcome

# Errors of a program that did not expect the response, as opposed to a report about the job.
CRASHES = frozenset(
    {
        "AssertionError",
        "AttributeError",
        "IndexError",
        "JSONDecodeError",
        "KeyError",
        "RecursionError",
        "TypeError",
        "UnboundLocalError",
        "UnicodeDecodeError",
        "ValidationError",
        "ValueError",
        "ZeroDivisionError",
    }
)


@rule(
    "VAR-01",
    "header-names",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    says="Header names are case-insensitive.",
    because="HTTP/2 sends them in lower case, and proxies change them; a client that looks for `Content-Length` then "
    "finds nothing: RFC 9110, section 5.1.",
)
def header_names(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(HEADER_NAMES))


@rule(
    "VAR-02",
    "body-without-length",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    says="A response may have no Content-Length: its body may be chunked, or end with the connection.",
    because="A progress bar needed the length and failed without it: Comfy-Org/comfy-cli#371, Kaggle/kaggle-cli#984; "
    "RFC 9112, sections 6.3 and 9.6.",
)
def body_without_length(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(BODY_LENGTH))


@rule(
    "VAR-03",
    "offered-coding",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    says="A client that offers a coding in Accept-Encoding decodes it.",
    because="The header was set and the body was not decoded, which worked until the first compressed response: "
    "RFC 9110, section 12.5.3.",
)
def offered_coding(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(CODED))


Judged = Callable[[list[Varied]], bool]


def only(form: str) -> Judged:
    """Return the predicate that a scenario has variations of one form, and no others."""
    return lambda found: {one.form for one in found} == {form}


def _same_end(trace: AnnotatedTrace, judged: Judged) -> Evidence:
    """Compare the end of a run under variations with its plain end."""
    scenario, outcome = trace.trace.scenario, trace.outcome
    found = variations(scenario)
    if not judged(found) or outcome is None or trace.trace.drill != ONCE or len(trace.runs) != 1 or not _met(trace):
        return
    plain = trace.trace.plain
    if plain is None and (has_faults(scenario) or "timeline" in scenario):
        return
    yield OBSERVED
    right = " and ".join(dict.fromkeys(f"it {one.says} ({one.source})" for one in found))
    for ending in _differences(trace, outcome, plain):
        yield Breach(f"the server was right: {right}. {ending}")


def _met(trace: AnnotatedTrace) -> bool:
    return any(step.exchange.move for step in trace.steps) or any(one.note for one in trace.deliveries)


def _differences(trace: AnnotatedTrace, outcome: Outcome, plain: Outcome | None) -> Iterator[str]:
    """Yield in words how a run ended otherwise than without the variations."""
    expected = plain.kind if plain is not None else "success"
    wanted = "the video" if expected == "success" else f"{expected!r} as without that"
    if outcome.kind != expected or _crashed(outcome, plain):
        yield f"The client ended with {outcome.message[:200] or repr(outcome.kind)} instead of {wanted}"
    elif outcome.kind == "success" and _other_video(trace, outcome, plain):
        yield "The client ended with other bytes than those of the video"
    jobs = len(trace.trace.jobs or ())
    if jobs > 1 and not has_faults(trace.trace.scenario):
        yield f"The client submitted {jobs} jobs instead of one"


def _crashed(outcome: Outcome, plain: Outcome | None) -> bool:
    """Whether a run that fails in both cases fails only here because of an error in the program."""
    if plain is None or outcome.kind == "success":
        return False
    name, usual = (one.message.partition(":")[0].rpartition(".")[2] for one in (outcome, plain))
    return name in CRASHES and name != usual


def _other_video(trace: AnnotatedTrace, outcome: Outcome, plain: Outcome | None) -> bool:
    """Whether the client has a video that is neither its job's nor the one that it has without the variations."""
    if outcome.sha256 is None or outcome.by_reference:
        return False
    right = {job.sha256 for job in trace.trace.jobs or () if job.sha256 is not None}
    return bool(right) and outcome.sha256 not in right | {plain.sha256 if plain is not None else None}
