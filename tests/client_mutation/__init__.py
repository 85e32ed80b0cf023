"""Changing correct clients in one place at a time: the client suite must notice each change."""
