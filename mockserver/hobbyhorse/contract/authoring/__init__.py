"""Write contracts: make a skeleton for a new provider, rewrite an older format, and lay out the files; no HTTP."""
