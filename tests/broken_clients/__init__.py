"""Clients that break the rules on purpose: each rule has one at least that the suite must catch."""
