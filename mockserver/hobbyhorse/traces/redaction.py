"""Removes secrets from exchanges: by value, wherever an API key occurs, and by name, in headers and parameters.

API keys are replaced by words, not removed, because the rules check where a key went, and because two keys mean two
accounts: with one key the word is `[key]`, with several it is `[key-1]`, `[key-2]` in order of first use. A key is
replaced in each of its encodings: clients copy it into URLs, JSON and compressed bodies.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.exchange import SECRET_HEADERS, Exchange, Headers
from hobbyhorse.traces.trace import KEY, NUMBERED_KEY, REDACTED

# Characters of a key that is replaced everywhere. A shorter key would match ordinary words, so it is replaced only in
# its own header or parameter.
SHORTEST_KEY = 6
# A cut body may end inside the key. Three characters or fewer reveal little, and occur by chance.
FEWEST = 4
# Bytes of an unpacked body that is searched for keys: a body of JSON has far fewer, and a bomb has far more.
MOST_UNPACKED_BYTES = 16 << 20
GZIP = b"\x1f\x8b"
# Keys whose forms are remembered: as many as the worlds that a server serves at a time.
MOST_KEYS = 1_024
_SECRET_NAME = re.compile(
    r"auth(?!enticate)|cookie|token|secret|passw|credential|api-?_?key|(?:^|[-_])key$", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Whether a header of this name probably has a secret."""
    return name.lower() in SECRET_HEADERS or _SECRET_NAME.search(name) is not None


class Redactor:
    """Replaces API keys wherever they occur, and other secrets in the headers and parameters that carry them.

    `shortest` is the length from which a key is replaced outside its own header. `kept` is the length to which bodies
    were cut, if they were: a cut body may end with the beginning of a key.
    """

    def __init__(
        self, contract: Contract, keys: Iterable[str], *, shortest: int = SHORTEST_KEY, kept: int | None = None
    ) -> None:
        self._contract, self._kept = contract, kept
        found = [key for key in dict.fromkeys(keys) if key]
        self._words = {key: KEY if len(found) == 1 else f"[key-{number}]" for number, key in enumerate(found, 1)}
        security = {name for part, name, _ in contract.security if part == "header"}
        self._names = SECRET_HEADERS | security
        place = contract.idempotency.key
        # An idempotency key is no secret, and the rules compare it.
        self._public = {place.name.lower()} if place is not None and place.part == "header" else set()
        self._query = frozenset(name for part, name, _ in contract.security if part == "query")
        long = [key for key in found if len(key) >= shortest]
        forms = {form: self._words[key] for key in long for form in key_forms(key)}
        # The longest form first: a shorter one may be part of it.
        self._forms = sorted(forms.items(), key=lambda form: len(form[0]), reverse=True)
        self._long = sorted(long, key=len, reverse=True)

    def exchange(self, one: Exchange) -> Exchange:
        """Return an exchange without secrets."""
        return replace(
            one,
            url=self.url(one.url),
            headers=tuple(self.headers(one.headers)),
            body=self.content(one.body),
            answer_headers=tuple(self.headers(one.answer_headers)),
            answer=self.content(one.answer),
            job=None if one.job is None else self.text(one.job),
            made=None if one.made is None else self.text(one.made),
            notes=tuple(map(self.text, one.notes)),
        )

    def text(self, text: str) -> str:
        """Return a text without keys."""
        for form, word in self._forms:
            text = text.replace(form, word)
        for key in self._long if "%" in text else ():
            text = _percent_encoded(key).sub(self._words[key], text)
        return text

    def values(self, value: Any) -> Any:
        """Return a JSON value without keys in its texts; the names of its members stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.values(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.values(one) for one in value]
        return value

    def content(self, content: bytes) -> bytes:
        """Return a body without keys, and without the beginning of a key at the end of a cut body."""
        if content.startswith(GZIP):
            return self._packed(content)
        for form, word in self._forms:
            content = content.replace(form.encode(errors="surrogateescape"), word.encode())
        if self._kept is not None and len(content) >= self._kept:
            for form, _ in self._forms:
                plain = form.encode(errors="surrogateescape")
                for size in range(len(plain) - 1, FEWEST - 1, -1):
                    content = content.removesuffix(plain[:size])
        return content

    def _packed(self, content: bytes) -> bytes:
        try:
            plain = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, MOST_UNPACKED_BYTES)
        except zlib.error:
            return content
        hidden = b"" if plain.startswith(GZIP) else self.content(plain)
        # Compressed anew only if necessary: other bytes would be another body.
        return content if hidden == plain else gzip.compress(hidden, mtime=0)

    def url(self, url: str) -> str:
        """Return a URL without keys."""
        before, mark, query = url.partition("?")
        return self.text(before) + mark + "&".join(map(self._argument, query.split("&")))

    def _argument(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        hidden = self.text(value)
        if unquote(name) in self._query and hidden == value and not NUMBERED_KEY.fullmatch(value):
            hidden = self._words.get(unquote(value), REDACTED)
        return self.text(name) + equals + hidden

    def headers(self, headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield headers without secrets; the names are in lower case."""
        for name, value in headers:
            secret = name in self._names or (is_secret_name(name) and name not in self._public)
            yield name, self._secret(name, value) if secret else self.text(value)

    def _secret(self, name: str, value: str) -> str:
        for part, way, before in self._contract.security:
            if (part, way) == ("header", name) and value.lower().startswith(before):
                given = value[len(before) :].strip()
                if NUMBERED_KEY.fullmatch(given) or given in self._words:
                    return value[: len(before)] + self._words.get(given, given)
        hidden = self.text(value)
        return hidden if hidden != value or NUMBERED_KEY.fullmatch(value) else REDACTED

    def finds_key(self, url: str, headers: Headers, body: bytes) -> bool:
        """Whether a request has a key in it."""
        texts = (url, *(value for _, value in headers))
        return any(self.text(text) != text for text in texts) or self.content(body) != body


def without_key(text: str, key: str) -> str:
    """Return a text without a key in any of its encodings."""
    for form in key_forms(key):
        text = text.replace(form, KEY)
    return _percent_encoded(key).sub(KEY, text) if "%" in text else text


@lru_cache(maxsize=MOST_KEYS)
def key_forms(key: str) -> tuple[str, ...]:
    """Return the encodings of a key: plain, in a URL, and in JSON; the longest first."""
    quoted = json.dumps(key)[1:-1]
    in_url = {quote(key, safe=""), quote(key), quote_plus(key)}
    # Percent-encoding has digits of either case.
    lower = {re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in in_url}
    found = {key, quoted, quoted.replace("/", "\\/"), json.dumps(key, ensure_ascii=False)[1:-1]} | in_url | lower
    return tuple(sorted(found, key=len, reverse=True))


@lru_cache(maxsize=MOST_KEYS)
def _percent_encoded(key: str) -> re.Pattern[str]:
    """Return the pattern of a key of which any characters are percent-encoded, needed or not."""
    encoded = ["".join(f"%{byte:02x}" for byte in char.encode(errors="surrogateescape")) for char in key]
    return re.compile("".join(f"(?:{re.escape(char)}|(?i:{one}))" for char, one in zip(key, encoded, strict=True)))
