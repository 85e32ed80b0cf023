"""Logs and spans of a running server, which cost nothing unless an option asks for them."""
