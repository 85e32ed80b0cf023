"""Decode input pictures, and encode and probe output videos. No HTTP, no clock; imports only `contract`."""
