"""Writes and reads the worlds of a server with a kept state."""
