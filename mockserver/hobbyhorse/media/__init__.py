"""Decode input pictures, and encode and probe output videos; no HTTP, no clock; imports only `contract`."""
