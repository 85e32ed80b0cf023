"""Rules about secrets and URLs: which hosts receive the key, and which URLs are not requested. Knows no server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

import orjson

from hobbyhorse.conformance.client.rules.redirects import location
from hobbyhorse.conformance.rule import (
    MONEY,
    MUST,
    OBSERVED,
    OUTCOME,
    SECURITY,
    SHOULD,
    WIRE,
    Breach,
    Evidence,
    Observed,
    rule,
)
from hobbyhorse.scenarios.faults.download import ELSEWHERE
from hobbyhorse.scenarios.fields import JOB_URLS
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, origin, parts
from hobbyhorse.traces.exchange import BODY, HEADERS
from hobbyhorse.traces.trace import shows_key

# Headers that carry a key by convention, besides the headers that the contract names.
CREDENTIALS = frozenset({"authorization", "x-api-key"})
# An error of the file system about a folder that only a server has named; other errors may quote the name.
NOT_WRITTEN = re.compile(
    rf"(?:no such file|not a directory|permission denied|read-only|not found|ENOENT|EACCES|EROFS).*/{ELSEWHERE}/",
    re.IGNORECASE | re.DOTALL,
)


@rule(
    "SEC-01",
    "no-auth-to-media-host",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    says="Send the key only to the provider: fetch files on other hosts without the key and without cookies.",
    because="A shared HTTP client also sends the key to the CDN, or to any other host in a video URL: "
    "gridaco/grida#909; the reverse happened in BerriAI/litellm#17016.",
    fix="Fetch files with a second HTTP client that has no Authorization header and no cookies.",
    example="fetch",
)
def no_auth_to_media_host(trace: AnnotatedTrace) -> Evidence:
    for step in trace.of("media"):
        if trace.origin(step) not in trace.homes:
            if _legible(trace, step):
                yield OBSERVED
            yield from _leaks(trace, step)


@rule(
    "SEC-02",
    "no-auth-to-foreign-origin",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    says="Send no credentials to a URL from a response, or to the target of a redirect, if its host is not the "
    "provider's.",
    because="An attacker who can place one URL in one response would take over the account: gridaco/grida#909.",
    fix="Compare scheme, host and port of a URL with those of the base URL before adding the key, and do not follow "
    "redirects automatically.",
    example="ask",
)
def no_auth_to_foreign_origin(trace: AnnotatedTrace) -> Evidence:
    yield from _kept_from(trace, "foreign", _foreign)


def _kept_from(
    trace: AnnotatedTrace, known: str, is_meant: Callable[[AnnotatedTrace, str | None], bool]
) -> Iterator[Observed | Breach]:
    """Look for credentials at the origins of a kind; a link or redirect to one is evidence, even if it is refused."""
    gone = [step for step in trace.steps if step.role != "media" and is_meant(trace, trace.origin(step))]
    gone += [step for step in trace.of("media") if trace.origin(step) == _known(trace, known)]
    legible = trace.shows_keys and all(_legible(trace, step) for step in gone)
    if legible and (
        gone or any(is_meant(trace, _origin(address)) for step in trace.steps for address in _addresses(step))
    ):
        yield OBSERVED
    for step in gone:
        yield from _leaks(trace, step)


@rule(
    "SEC-03",
    "ssrf-guard",
    level=SHOULD,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    says="Do not fetch a video URL that points into a private network or to this machine, or whose scheme is not HTTP "
    "or HTTPS, nor follow a redirect there; the host of the base URL is exempt. A test run has links to one more "
    "address of this machine, and to no other.",
    because="The author of the URL could reach the client's own network: openclaw/openclaw#103083, in five provider "
    "integrations; n24q02m/wet-mcp#239, by a redirect.",
    fix="Resolve the host of the video's URL, and refuse it unless every address is public and the scheme is http or "
    "https.",
    example="public",
)
def ssrf_guard(trace: AnnotatedTrace) -> Evidence:
    given = (step.video or (location(step) if step.role == "media" else None) for step in trace.steps)
    gave = {address for address in given if address is not None and _private(trace, address)}
    # A foreign host on this machine stands for one on the internet.
    gave = {address for address in gave if _origin(address) != _known(trace, "foreign")}
    if gave:
        yield OBSERVED
    forbidden = ({_origin(address) for address in gave} | {_known(trace, "private")}) - {None} - trace.homes
    for step in trace.steps:
        if trace.origin(step) in forbidden:
            yield Breach(f"request {step.number} goes to {_bare(step)}: a private address, or not HTTP(S)")


@rule(
    "SEC-04",
    "no-secret-in-url",
    level=SHOULD,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    says="Never put the key into a URL or body, unless the provider requires the key in the query.",
    because="URLs are written into the logs of servers and proxies, and bodies are stored with the job; "
    "gridaco/grida#909 is about a key that was sent to the wrong place.",
    fix="Send the key in the documented header only, and keep it out of query strings, bodies and error messages.",
    example="collect",
)
def no_secret_in_url(trace: AnnotatedTrace) -> Evidence:
    in_query = any(part == "query" for part, _, _ in trace.contract.security)
    # If the key occurs in the request that the client was given, its body proves nothing.
    if any(run.request is not None and shows_key(orjson.dumps(run.request).decode()) for run in trace.runs):
        return
    for step in trace.steps:
        if _legible(trace, step) and step.exchange.has(BODY):
            yield OBSERVED
        # A provider may put a key into a signed URL; the client only follows it.
        if shows_key(unquote(step.exchange.url)) and not in_query and not _given(trace, step):
            yield Breach(f"request {step.number} contains the key in its URL, {_bare(step)}")
        if shows_key(step.exchange.body.decode(errors="replace")):
            yield Breach(f"request {step.number} contains the key in its body")


@rule(
    "SEC-05",
    "no-auth-to-other-port",
    level=SHOULD,
    severity="S1",
    harm=SECURITY,
    channel=WIRE,
    says="Send no credentials to another port of the provider's host if a URL in a response or a redirect leads there.",
    because="Another service may listen at the other port: psf/requests#4718, and curl's CVE-2022-27776. It is not a "
    "MUST, because some HTTP libraries, such as Go's net/http, compare host names only, as documented.",
    fix="Compare the port as well as the host before adding the key: the default port of the scheme counts as given.",
    example="ask",
)
def no_auth_to_other_port(trace: AnnotatedTrace) -> Evidence:
    yield from _kept_from(trace, "port", _on_other_port)


@rule(
    "SEC-06",
    "own-folder",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    channel=OUTCOME,
    says="Write only into the client's own folder: of a file name in Content-Disposition, use the last part at most.",
    because="A server could overwrite any file of the user: fabiocaccamo/python-fsutil#180, pypa/pip#6413. RFC 6266, "
    "section 4.3: recipients MUST NOT write into any location other than one to which they are entitled.",
    fix="Choose the file's name yourself, or use the last part of the suggested one, such as Path(name).name.",
    example="save",
)
def own_folder(trace: AnnotatedTrace) -> Evidence:
    led = [step for step in trace.fetches if ELSEWHERE in (step.exchange.answer_header("content-disposition") or "")]
    for run in trace.runs if led else ():
        outcome = run.outcome
        if outcome is None or outcome.kind == "unfinished" or outcome.by_reference:
            continue
        yield OBSERVED
        named = f"request {led[0].number} suggested a file name in another folder"
        if ELSEWHERE in PurePath(outcome.saved.replace("\\", "/")).parts[:-1]:
            yield Breach(f"{named}, and the client saved the video there: {outcome.saved[:200]}")
        # The folder does not exist, so that a client that believes the name fails.
        elif outcome.kind != "success" and NOT_WRITTEN.search(outcome.message):
            yield Breach(f"{named}, and the client tried to write there: {outcome.message[:200]}")


@rule(
    "SEC-07",
    "key-of-the-order",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    says="Send each order, and what belongs to it, with the key that was given for it, not with the key of an earlier "
    "order.",
    because="A service that orders for several customers bills one of them for the orders of all: "
    "benchling/app-examples-python#22, a cached client that kept the credentials of its first tenant.",
    fix="Make the HTTP client for each key, or keep one for each key, and never keep a key in a module.",
    example="collect",
)
def key_of_the_order(trace: AnnotatedTrace) -> Evidence:
    # Each run of a test has a key of its own; in a recording, all orders may be of one account.
    if trace.runs and trace.trace.jobs is not None and any(step.keys for step in trace.steps):
        yield OBSERVED
    for step in trace.with_other_keys:
        yield Breach(f"request {step.number}, {_bare(step)}, carries the key that was given for an earlier order")


@rule(
    "SEC-08",
    "no-secret-in-output",
    level=SHOULD,
    severity="S1",
    harm=SECURITY,
    channel=OUTCOME,
    says="Keep the key and the secret of callbacks out of error messages, and out of what a program prints.",
    because="Errors and output are written into logs and issue trackers: axios/axios#6919, errors that print the "
    "Authorization header of their request; clusterzx/paperless-ai#966, a log with a valid token.",
    fix="Name the URL and the status in an error, never the headers of the request; no `set -x`, no `curl -v`.",
    example="ask",
)
def no_secret_in_output(trace: AnnotatedTrace) -> Evidence:
    for number, run in enumerate(trace.runs, 1):
        if run.outcome is not None and run.outcome.shows_key is not None:
            yield OBSERVED
            if run.outcome.shows_key:
                yield Breach(
                    f"run {number} shows a secret in its error or its output; it ended as {run.outcome.kind!r}"
                )


def _leaks(trace: AnnotatedTrace, step: Step) -> Iterator[Breach]:
    """Yield a breach for each credential that a request sends to a host that must not receive it.

    At an origin that no response is known to name, the client may have an account of its own: there, only the
    provider's key counts.
    """
    there, named = trace.origin(step), CREDENTIALS | {n for part, n, _ in trace.contract.security if part == "header"}
    known = step.role == "media" or there in (_known(trace, "foreign"), _known(trace, "port"))
    for name, value in step.exchange.headers:
        # A host may get back the cookies that it set itself.
        # A recording begins when the host may have set its cookies already.
        cookie = name.lower() == "cookie" and bool(trace.runs) and not _sets_cookies(trace, there)
        if shows_key(value) or (known and (name.lower() in named or cookie)):
            yield Breach(f"request {step.number} sends the header {name!r} to {there}, which is not the provider")
    if shows_key(unquote(step.exchange.url)) and not _given(trace, step):
        yield Breach(f"request {step.number} sends the key in its URL to {there}, which is not the provider")


def _legible(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a key in a request would be seen."""
    return trace.shows_keys and step.exchange.has(HEADERS)


def _sets_cookies(trace: AnnotatedTrace, there: str) -> bool:
    return any(trace.origin(step) == there and step.exchange.answer_header("set-cookie") for step in trace.steps)


def _given(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether an earlier response gave the exact URL of a request, with the key in it."""
    address = step.exchange.url.encode()
    return trace.unread_before(step) or any(
        other.delivered and address in other.exchange.answer for other in trace.steps[: step.number - 1]
    )


def _addresses(step: Step) -> Iterator[str]:
    """Yield the operation URLs in a response."""
    if step.ok:
        yield from (url for name in JOB_URLS if isinstance(url := step.reading.values.get(name), str))
    location = step.exchange.answer_header("location")
    if step.delivered and location is not None and step.role != "media":
        yield location


def _foreign(trace: AnnotatedTrace, there: str | None) -> bool:
    """Whether an origin belongs neither to the provider's host, nor to its files, nor to a private video URL."""
    return _other(trace, there) and urlsplit(there or "").hostname not in _hosts(trace)


def _on_other_port(trace: AnnotatedTrace, there: str | None) -> bool:
    """Whether an origin differs from the provider's in the port or scheme alone."""
    return _other(trace, there) and urlsplit(there or "").hostname in _hosts(trace)


def _other(trace: AnnotatedTrace, there: str | None) -> bool:
    known = {_known(trace, "media"), _known(trace, "private")}
    if there is None or urlsplit(there).netloc in trace.contract.hosts:
        return False
    return there not in trace.homes and there not in known


def _hosts(trace: AnnotatedTrace) -> frozenset[str | None]:
    return frozenset(urlsplit(home).hostname for home in trace.homes)


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
        if parts.hostname == "localhost" or (parts.hostname or "").endswith(".localhost"):
            return True
        if parts.scheme and parts.scheme not in ("http", "https"):
            return True
        address_of_host = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return False
    return address_of_host.is_private or address_of_host.is_loopback or address_of_host.is_link_local


def _bare(step: Step) -> str:
    return step.exchange.url.partition("?")[0][:200]
