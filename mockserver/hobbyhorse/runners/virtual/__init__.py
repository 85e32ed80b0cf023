"""Run any program in virtual time, on Linux; it may not import the command line."""
