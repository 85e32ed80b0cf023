"""Run clients: commands, callables, virtual time, process pools; imports `testing` and `conformance`."""
