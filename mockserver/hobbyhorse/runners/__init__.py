"""Run clients: commands, callables, virtual time, process pools. Imports `testing` and `conformance`."""
