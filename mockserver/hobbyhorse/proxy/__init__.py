"""The recording proxy and its live judge; imports `conformance` and `traces`, never `server` or `worlds`."""
