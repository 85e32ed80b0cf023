"""Rules about secrets and addresses: who may learn the key, and which addresses are not to be asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import orjson

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.scenarios.moves import JOB_URLS
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, origin, parts
from hobbyhorse.traces.trace import KEY

CREDENTIALS = frozenset({"authorization", "x-api-key"})


def key_stays_from_files(story: AnnotatedTrace) -> list[str] | None:
    """Look for credentials in requests for files that are elsewhere than the provider."""
    files = [step for step in story.of("media") if story.origin(step) not in story.homes]
    return [sentence for step in files for sentence in _leaks(story, step)] if files else None


def key_stays_at_home(story: AnnotatedTrace) -> list[str] | None:
    """Look for credentials in requests to an origin that only an answer has named."""
    gone = [step for step in story.steps if _foreign(story, story.origin(step)) and step.role != "media"]
    gone += [step for step in story.of("media") if story.origin(step) == _known(story, "foreign")]
    named = any(_foreign(story, _origin(address)) for step in story.steps for address in _addresses(step))
    return [sentence for step in gone for sentence in _leaks(story, step)] if gone or named else None


def no_private_address(story: AnnotatedTrace) -> list[str] | None:
    """Look for requests to private addresses that an answer gave as the video's."""
    gave = {step.video for step in story.steps if step.video is not None and _private(story, step.video)}
    forbidden = ({_origin(address) for address in gave} | {_known(story, "private")}) - {None} - story.homes
    met = [step for step in story.steps if story.origin(step) in forbidden]
    found = [f"request {step.number} goes to {_bare(step)}, where no video of this provider can be" for step in met]
    return found if gave or met else None


def no_secret_in_addresses(story: AnnotatedTrace) -> list[str] | None:
    """Look for the key in addresses and bodies."""
    in_query = any(part == "query" for part, _, _ in story.contract.security)
    if any(run.request is not None and KEY in orjson.dumps(run.request).decode() for run in story.trace.runs):
        return None
    found = []
    for step in story.steps:
        if KEY in unquote(step.exchange.url) and not in_query and not _told(story, step):
            found.append(f"request {step.number} has the key in its address, {_bare(step)}")
        if KEY.encode() in step.exchange.body:
            found.append(f"request {step.number} has the key in its body")
    return found if story.steps else None


def _leaks(story: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield a sentence for each credential that a request carries to where it has no business.

    At an origin that no answer is known to name, the client may have an account of its own: there it is the key alone.
    """
    there, named = story.origin(step), CREDENTIALS | {n for part, n, _ in story.contract.security if part == "header"}
    known = step.role == "media" or there == _known(story, "foreign")
    for name, value in step.exchange.headers:
        cookie = name.lower() == "cookie" and not _sets_cookies(story, there)
        if KEY in value or (known and (name.lower() in named or cookie)):
            yield f"request {step.number} sends {name!r} to {there}"
    if KEY in unquote(step.exchange.url) and not _told(story, step):
        yield f"request {step.number} sends the key in its address to {there}"


def _sets_cookies(story: AnnotatedTrace, there: str) -> bool:
    return any(story.origin(step) == there and step.exchange.answer_header("set-cookie") for step in story.steps)


def _told(story: AnnotatedTrace, step: Step) -> bool:
    """Whether an answer before gave the address of a request as it stands, with whatever is in it."""
    address = step.exchange.url.encode()
    return any(other.delivered and address in other.exchange.answer for other in story.steps[: step.number - 1])


def _addresses(step: Step) -> Iterator[str]:
    """Yield the addresses of operations that an answer gave."""
    if step.ok:
        yield from (url for name in JOB_URLS if isinstance(url := step.reading.values.get(name), str))
    location = step.exchange.answer_header("location")
    if step.delivered and location is not None and step.role != "media":
        yield location


def _foreign(story: AnnotatedTrace, there: str | None) -> bool:
    """Whether an origin is neither the provider's nor that of its files, nor a private one of a video."""
    known = {_known(story, "media"), _known(story, "private")}
    if there is None or urlsplit(there).netloc in story.contract.hosts:
        return False
    return there not in story.homes and there not in known


def _known(story: AnnotatedTrace, name: str) -> str | None:
    found = story.trace.origins.get(name)
    return _origin(found) if found is not None else None


def _origin(address: str) -> str | None:
    """Return scheme, host and port of an address that has them, or None."""
    found = parts(address)
    return origin(address) if found.scheme and found.netloc else None


def _private(story: AnnotatedTrace, address: str) -> bool:
    """Whether a video's address is one that no provider's video has: of another scheme, or of a private network."""
    there = _origin(address)
    if there is not None and there == _known(story, "private"):
        return True
    own = {urlsplit(home).hostname for home in {*story.homes, _known(story, "media") or ""}} - {None}
    try:
        parts = urlsplit(address)
        if parts.hostname in own:
            return False
        if parts.scheme and parts.scheme not in ("http", "https"):
            return True
        number = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return False
    return number.is_private or number.is_loopback or number.is_link_local


def _bare(step: Step) -> str:
    return step.exchange.url.partition("?")[0][:200]


RULES = (
    Rule(
        "SEC-01",
        "no-auth-to-media-host",
        "MUST",
        "S1",
        "wire",
        "The key goes to the provider alone: a file on another host is fetched without it, and without cookies.",
        "One client for everything sends its key to a content network, and to whoever owns the address of the video: "
        "gridaco/grida#909, and the other way round in BerriAI/litellm#17016.",
        key_stays_from_files,
    ),
    Rule(
        "SEC-02",
        "no-auth-to-foreign-origin",
        "MUST",
        "S1",
        "wire",
        "An address in an answer, or a redirect, to another origin than the provider's gets no credentials.",
        "Who can write one address into one answer would have the account: gridaco/grida#909.",
        key_stays_at_home,
    ),
    Rule(
        "SEC-03",
        "ssrf-guard",
        "SHOULD",
        "S1",
        "wire",
        "A video's address is not fetched if it is of a private network, of this machine, or of another scheme; the "
        "host of the base URL may be one.",
        "The client's own network is within reach of who writes the address: openclaw/openclaw#103083, in five "
        "providers.",
        no_private_address,
    ),
    Rule(
        "SEC-04",
        "no-secret-in-url",
        "SHOULD",
        "S1",
        "wire",
        "The key stands in no address and in no body, unless the provider wants it in the query.",
        "Addresses are written into logs of servers and proxies, and bodies are kept with the job; a key that was sent "
        "where it does not belong is what gridaco/grida#909 is about.",
        no_secret_in_addresses,
    ),
)
