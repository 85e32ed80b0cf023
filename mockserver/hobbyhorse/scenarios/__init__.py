"""Scenarios and their faults. Imports only `contract`; no sockets."""
