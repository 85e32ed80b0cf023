"""Rules about secrets and URLs: which hosts receive the key, and which URLs are not requested. Knows no server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import orjson

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.scenarios.fields import JOB_URLS
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, origin, parts
from hobbyhorse.traces.trace import KEY

# Headers that carry a key by convention, besides those that the contract names.
CREDENTIALS = frozenset({"authorization", "x-api-key"})


def key_stays_from_files(trace: AnnotatedTrace) -> list[str] | None:
    """Look for credentials in requests for files on hosts other than the provider's."""
    files = [step for step in trace.of("media") if trace.origin(step) not in trace.homes]
    return [sentence for step in files for sentence in _leaks(trace, step)] if files else None


def key_stays_at_home(trace: AnnotatedTrace) -> list[str] | None:
    """Look for credentials in requests to an origin that only a response has named."""
    gone = [step for step in trace.steps if _foreign(trace, trace.origin(step)) and step.role != "media"]
    gone += [step for step in trace.of("media") if trace.origin(step) == _known(trace, "foreign")]
    named = any(_foreign(trace, _origin(address)) for step in trace.steps for address in _addresses(step))
    return [sentence for step in gone for sentence in _leaks(trace, step)] if gone or named else None


def no_private_address(trace: AnnotatedTrace) -> list[str] | None:
    """Look for requests to a private video URL that a response gave."""
    gave = {step.video for step in trace.steps if step.video is not None and _private(trace, step.video)}
    forbidden = ({_origin(address) for address in gave} | {_known(trace, "private")}) - {None} - trace.homes
    met = [step for step in trace.steps if trace.origin(step) in forbidden]
    found = [f"request {step.number} goes to {_bare(step)}, which cannot be a video of this provider" for step in met]
    return found if gave or met else None


def no_secret_in_addresses(trace: AnnotatedTrace) -> list[str] | None:
    """Look for the key in URLs and bodies."""
    in_query = any(part == "query" for part, _, _ in trace.contract.security)
    # If the key occurs in the request that the client was given, its body proves nothing.
    if any(run.request is not None and KEY in orjson.dumps(run.request).decode() for run in trace.runs):
        return None
    found = []
    for step in trace.steps:
        # A provider may put a key into a signed URL; the client only follows it.
        if KEY in unquote(step.exchange.url) and not in_query and not _given(trace, step):
            found.append(f"request {step.number} has the key in its URL, {_bare(step)}")
        if KEY.encode() in step.exchange.body:
            found.append(f"request {step.number} has the key in its body")
    return found if trace.steps else None


def _leaks(trace: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield a sentence for each credential that a request sends to a host that must not receive it.

    At an origin that no response is known to name, the client may have an account of its own: there, only the
    provider's key counts.
    """
    there, named = trace.origin(step), CREDENTIALS | {n for part, n, _ in trace.contract.security if part == "header"}
    known = step.role == "media" or there == _known(trace, "foreign")
    for name, value in step.exchange.headers:
        # A host may get back the cookies that it set itself.
        cookie = name.lower() == "cookie" and not _sets_cookies(trace, there)
        if KEY in value or (known and (name.lower() in named or cookie)):
            yield f"request {step.number} sends {name!r} to {there}"
    if KEY in unquote(step.exchange.url) and not _given(trace, step):
        yield f"request {step.number} sends the key in its URL to {there}"


def _sets_cookies(trace: AnnotatedTrace, there: str) -> bool:
    return any(trace.origin(step) == there and step.exchange.answer_header("set-cookie") for step in trace.steps)


def _given(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether an earlier response gave the exact URL of a request, with the key in it."""
    address = step.exchange.url.encode()
    return any(other.delivered and address in other.exchange.answer for other in trace.steps[: step.number - 1])


def _addresses(step: Step) -> Iterator[str]:
    """Yield the operation URLs in a response."""
    if step.ok:
        yield from (url for name in JOB_URLS if isinstance(url := step.reading.values.get(name), str))
    location = step.exchange.answer_header("location")
    if step.delivered and location is not None and step.role != "media":
        yield location


def _foreign(trace: AnnotatedTrace, there: str | None) -> bool:
    """Whether an origin belongs neither to the provider, nor to its files, nor to a private video URL."""
    known = {_known(trace, "media"), _known(trace, "private")}
    if there is None or urlsplit(there).netloc in trace.contract.hosts:
        return False
    return there not in trace.homes and there not in known


def _known(trace: AnnotatedTrace, name: str) -> str | None:
    found = trace.trace.origins.get(name)
    return _origin(found) if found is not None else None


def _origin(address: str) -> str | None:
    """Return the scheme, host and port of an absolute URL, or None."""
    found = parts(address)
    return origin(address) if found.scheme and found.netloc else None


def _private(trace: AnnotatedTrace, address: str) -> bool:
    """Whether a video URL has a scheme other than HTTP, or an address in a private network."""
    there = _origin(address)
    if there is not None and there == _known(trace, "private"):
        return True
    # The fake and its media host are on loopback addresses themselves.
    own = {urlsplit(home).hostname for home in {*trace.homes, _known(trace, "media") or ""}} - {None}
    try:
        parts = urlsplit(address)
        if parts.hostname in own:
            return False
        if parts.scheme and parts.scheme not in ("http", "https"):
            return True
        address_of_host = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return False
    return address_of_host.is_private or address_of_host.is_loopback or address_of_host.is_link_local


def _bare(step: Step) -> str:
    return step.exchange.url.partition("?")[0][:200]


RULES = (
    Rule(
        "SEC-01",
        "no-auth-to-media-host",
        "MUST",
        "S1",
        "wire",
        "Send the key only to the provider: fetch a file on another host without the key and without cookies.",
        "One HTTP client for everything sends its key to a CDN, and to the owner of the video URL's host: "
        "gridaco/grida#909; the reverse happened in BerriAI/litellm#17016.",
        key_stays_from_files,
    ),
    Rule(
        "SEC-02",
        "no-auth-to-foreign-origin",
        "MUST",
        "S1",
        "wire",
        "Send no credentials to a URL in a response, or to the target of a redirect, if its origin is not the "
        "provider's.",
        "An attacker who can write one URL into one response would gain the account: gridaco/grida#909.",
        key_stays_at_home,
    ),
    Rule(
        "SEC-03",
        "ssrf-guard",
        "SHOULD",
        "S1",
        "wire",
        "Do not fetch a video URL that is in a private network, on this machine, or of a scheme other than HTTP; the "
        "host of the base URL is exempt.",
        "The author of the URL could reach the client's own network: openclaw/openclaw#103083, in five providers.",
        no_private_address,
    ),
    Rule(
        "SEC-04",
        "no-secret-in-url",
        "SHOULD",
        "S1",
        "wire",
        "Put the key into no URL and no body, unless the provider requires it in the query.",
        "URLs are written into the logs of servers and proxies, and bodies are stored with the job; gridaco/grida#909 "
        "is about a key that was sent to the wrong place.",
        no_secret_in_addresses,
    ),
)
