"""Load the certificates of TLS contexts only when a connection uses them. No server.

`httpx.get` and its siblings make a client, and with it a TLS context, for each call. Loading the bundle of certificates
takes 20 ms, even for a plain HTTP request. A client that polls in this way until its limit takes two minutes, although
its run in virtual time takes two seconds; and the fake has no TLS. So while a client runs, a context only notes where
its certificates are. It loads them before it is first used, and at the latest when the run ends.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

_LOAD = "load_verify_locations"
# The methods that use the certificates of a context.
_USES = ("wrap_socket", "wrap_bio", "get_ca_certs", "cert_store_stats", "load_default_certs")


@contextmanager
def deferred_certificates() -> Iterator[None]:
    """Defer the loading of certificates within the context."""
    own = {name: vars(ssl.SSLContext).get(name) for name in (_LOAD, *_USES)}
    deferral = _Deferral(getattr(ssl.SSLContext, _LOAD))
    for name in _USES:
        setattr(ssl.SSLContext, name, deferral.before(getattr(ssl.SSLContext, name)))
    setattr(ssl.SSLContext, _LOAD, lambda context, *given, **named: deferral.defer(context, *given, **named))
    try:
        yield
    finally:
        for name, method in own.items():
            if method is None:  # inherited from the context in C
                delattr(ssl.SSLContext, name)
            else:
                setattr(ssl.SSLContext, name, method)
        for context in list(deferral.waiting):
            # A file that is not a bundle of certificates: the client's error, and the client has ended.
            with suppress(OSError):
                deferral.catch_up(context)


class _Deferral:
    """The certificates that each context has still to load."""

    def __init__(self, load: Callable[..., None]) -> None:
        self._load = load
        self.waiting: WeakKeyDictionary[ssl.SSLContext, list[str]] = WeakKeyDictionary()

    def defer(self, context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        """Note a file of certificates; load anything else at once."""
        # An unreadable file is an error of this call, and certificates in memory load quickly.
        if cadata is None and capath is None and isinstance(cafile, str) and os.access(cafile, os.R_OK):
            self.waiting.setdefault(context, []).append(cafile)
        else:
            self.catch_up(context)
            self._load(context, cafile, capath, cadata)

    def catch_up(self, context: ssl.SSLContext) -> None:
        """Load the files of a context."""
        for file in self.waiting.pop(context, ()):
            self._load(context, file)

    def before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that loads the files of its context first."""

        def use(context: ssl.SSLContext, *given: Any, **named: Any) -> Any:
            self.catch_up(context)
            return method(context, *given, **named)

        return use
