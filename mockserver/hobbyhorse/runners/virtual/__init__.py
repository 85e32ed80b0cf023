"""Run any program in virtual time, on Linux. It may not import the command line."""
