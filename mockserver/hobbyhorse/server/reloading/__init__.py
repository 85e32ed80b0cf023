"""Contracts and scenarios of a running server, read again when their files change."""
