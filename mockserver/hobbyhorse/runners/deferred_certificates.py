"""Load the certificates of TLS contexts only when a connection uses them. No server.

`httpx.get` and its siblings make a client, and with it a TLS context, for each call. Loading the bundle of certificates
takes 20 ms, even for a plain HTTP request. A client that polls in this way until its limit takes two minutes, although
its run in virtual time takes two seconds; and the fake has no TLS. So while a client runs, a context only notes where
its certificates are, and loads them before it is first used. A context that outlives the run may be used later, or is
garbage that nobody has collected yet: so the methods that use certificates stay replaced until no context waits.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

_LOAD = "load_verify_locations"
# The methods that use the certificates of a context.
_USES = ("wrap_socket", "wrap_bio", "get_ca_certs", "cert_store_stats", "load_default_certs")


@contextmanager
def deferred_certificates() -> Iterator[None]:
    """Defer the loading of certificates within the context."""
    _DEFERRAL.begin()
    try:
        yield
    finally:
        _DEFERRAL.end()


class _Deferral:
    """The certificates that each context has still to load, and the methods that are replaced meanwhile."""

    def __init__(self) -> None:
        self.waiting: WeakKeyDictionary[ssl.SSLContext, list[str]] = WeakKeyDictionary()
        self._lock = threading.RLock()
        self._runs = 0
        self._load: Callable[..., None] = ssl.SSLContext.load_verify_locations
        self._own: dict[str, Any] = {}

    def begin(self) -> None:
        """Replace the methods, if they are not yet."""
        with self._lock:
            self._runs += 1
            if self._runs > 1:
                return
            self._load = getattr(ssl.SSLContext, _LOAD)
            self._replace(_LOAD, lambda context, *given, **named: self.defer(context, *given, **named))
            for name in _USES:
                if name not in self._own:
                    self._replace(name, self._before(getattr(ssl.SSLContext, name)))

    def end(self) -> None:
        """Load certificates at once again, and restore the other methods unless a context waits."""
        with self._lock:
            self._runs -= 1
            if not self._runs:
                self._restore(_LOAD)
                self._restore_uses()

    def defer(self, context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        """Note a file of certificates; load anything else at once."""
        # An unreadable file is an error of this call, and certificates in memory load quickly.
        if cadata is None and capath is None and isinstance(cafile, str) and os.access(cafile, os.R_OK):
            self.waiting.setdefault(context, []).append(cafile)
        else:
            self._catch_up(context)
            self._load(context, cafile, capath, cadata)

    def _catch_up(self, context: ssl.SSLContext) -> None:
        """Load the files of a context."""
        for file in self.waiting.pop(context, ()):
            self._load(context, file)

    def _before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that loads the files of its context first."""

        def use(context: ssl.SSLContext, *given: Any, **named: Any) -> Any:
            self._catch_up(context)
            return method(context, *given, **named)

        return use

    def _replace(self, name: str, method: Callable[..., Any]) -> None:
        self._own[name] = vars(ssl.SSLContext).get(name)
        setattr(ssl.SSLContext, name, method)

    def _restore_uses(self) -> None:
        for name in _USES if not self.waiting else ():
            self._restore(name)

    def _restore(self, name: str) -> None:
        method = self._own.pop(name)
        if method is None:  # inherited from the context in C
            delattr(ssl.SSLContext, name)
        else:
            setattr(ssl.SSLContext, name, method)


_DEFERRAL = _Deferral()
