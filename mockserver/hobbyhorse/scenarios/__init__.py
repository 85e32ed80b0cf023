"""Scenarios and the faults they are made of; imports only `contract`, and knows no socket."""
