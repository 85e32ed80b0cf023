"""The state of one API key: jobs, journal, limits, ledger; imports `contract`, `scenarios` and `clock`; no HTTP."""
