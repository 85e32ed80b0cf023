"""The mock server as an object for tests: local, remote, and the pytest plugin; never imports `conformance`."""
