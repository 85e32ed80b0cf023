"""API keys for test cases, in the form that a provider documents. No HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hobbyhorse.contract.values import Contract

# The alphabets in which a character of the documented example may be exchanged without a change of the form.
ALPHABETS = ("0123456789", "abcdef", "ABCDEF", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
# Characters at the end of an example that are exchanged: enough for millions of keys, few enough to keep a prefix.
MOST_EXCHANGED = 12


def example_key(contract: Contract, number: int) -> str:
    """Return the API key with a number, from 0; different numbers give different keys.

    Some SDKs refuse a key of another form than the documented one before they send a request. Raises LookupError if
    no further key matches the documented pattern.
    """
    form = contract.key_form
    if form is None:
        return f"hh-test-key-{number:06}"
    for key in _variants(form.example, number):
        # A character may belong to a prefix, or to a narrower class than its alphabet.
        if re.fullmatch(form.pattern, key):
            return key
    raise LookupError(f"no key number {number} matches {form.pattern!r} in the key_form of {contract.key}")


def _variants(example: str, number: int) -> Iterator[str]:
    """Yield the example with a number written into its last letters and digits, in narrow alphabets first."""
    for letters in (ALPHABETS[:3], ALPHABETS):
        key, rest = list(example), number
        places = [at for at in reversed(range(len(key))) if any(key[at] in one for one in letters)]
        for at in places[:MOST_EXCHANGED]:
            alphabet = next(one for one in letters if key[at] in one)
            # Added to the example's own character, so that number 0 is the example.
            step = alphabet.index(key[at]) + rest
            key[at], rest = alphabet[step % len(alphabet)], rest // len(alphabet)
        if rest == 0:
            yield "".join(key)
