"""The page at `/_mock/ui`: worlds, jobs, exchanges, callbacks, scenarios, clock and ledger for a browser."""
