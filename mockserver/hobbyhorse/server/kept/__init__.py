"""The worlds of a server whose state is kept: their changes are written, and their records are read."""
