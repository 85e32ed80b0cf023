"""The command line; may import every folder, and no folder imports it."""
