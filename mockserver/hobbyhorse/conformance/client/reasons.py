"""The reasons that a provider gives for a failure, and whether a text contains them. No rules, no server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hobbyhorse.contract.reading import as_json, message_of, read_callback
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.trace import Delivery

# The bound names of a reason: for a failed job, and for a refused request.
FAILURE, REFUSAL = ("error_code", "error_message"), ("refusal_code", "refusal_message")
# Characters of a response that are searched for: a client may report the beginning of a response instead of its reason.
BEGINNING = 200
# Letters and digits of a reason that must occur in a text: fewer occur by chance, and a client may shorten the rest.
ENOUGH = 40
# The lowest HTTP status of a refusal (RFC 9110, section 15.5).
REFUSED = 400


def reasons_of(step: Step) -> tuple[str, ...]:
    """Return the code and message in a response: of a failed job, or of a refusal."""
    # The response with a failed job may have a message of its own, such as "success".
    return tuple(_texts(step.reading.values.get(name) for name in (FAILURE if step.failure else REFUSAL)))


def beginning_of(step: Step) -> tuple[str, ...]:
    """Return the beginning of a response that reports a failure or a refusal."""
    text = step.exchange.answer[:BEGINNING].decode(errors="replace")
    return (text,) if len(_plain(text)) >= ENOUGH and (step.failure or step.status >= REFUSED) else ()


def reasons_of_callback(trace: AnnotatedTrace, delivery: Delivery) -> tuple[str, ...]:
    """Return the codes and messages in a callback."""
    callbacks = trace.contract.callbacks
    if callbacks is None or not delivery.body:
        return ()
    message = message_of(delivery.headers, as_json(delivery.body))
    values = read_callback(trace.contract.schemas, callbacks, message).values
    return tuple(_texts(values.get(name) for name in FAILURE))


def reasons_in(trace: AnnotatedTrace) -> tuple[str, ...]:
    """Return what explains failures in all responses and callbacks of a trace, each once."""
    found = [reason for step in trace.steps for reason in (*reasons_of(step), *beginning_of(step))]
    found += [reason for delivery in trace.deliveries for reason in reasons_of_callback(trace, delivery)]
    return tuple(dict.fromkeys(found))


def mentioned(reasons: Iterable[str], text: str) -> tuple[str, ...]:
    """Return the reasons that a text contains, with other spelling or punctuation, or shortened."""
    plain = _plain(text)
    return tuple(reason for reason in reasons if _plain(reason)[:ENOUGH] in plain)


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str | int) and not isinstance(value, bool) and _plain(str(value)):
            yield str(value)


def _plain(text: str) -> str:
    """Return the letters and digits of a text in lower case: clients quote, escape and wrap messages."""
    return "".join(filter(str.isalnum, text.casefold()))
