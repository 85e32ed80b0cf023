"""The command line; may import every folder, but no folder imports it."""
