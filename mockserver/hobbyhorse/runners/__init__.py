"""Running clients against the fake: commands, callables, virtual time, processes; imports `testing` and `conformance`."""
