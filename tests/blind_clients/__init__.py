"""Clients written from the documents alone, by people who did not know the rules: correct, broken, and typical ones."""
