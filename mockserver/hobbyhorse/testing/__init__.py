"""The fake as an object for tests: local, remote, and the pytest plugin; imports `server` and `worlds`, never `conformance`."""
