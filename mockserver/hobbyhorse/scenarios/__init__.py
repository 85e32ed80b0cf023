"""Scenarios and their faults; imports only `contract`, no sockets."""
