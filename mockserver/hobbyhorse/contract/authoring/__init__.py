"""Writing contracts: a skeleton for a new provider, an older format rewritten, and the layout of both; no HTTP."""
