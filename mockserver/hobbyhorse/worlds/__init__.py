"""The state of one API key: jobs, journal, limits, ledger. Imports `contract`, `scenarios` and `clock`; no HTTP."""
