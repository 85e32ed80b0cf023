"""The command line. May import every folder, but no folder imports it."""
