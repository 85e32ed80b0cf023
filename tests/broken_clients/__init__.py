"""Clients that break the rules on purpose: the suite must catch at least one for each rule."""
