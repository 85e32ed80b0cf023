"""What lint holds against a contract, by subject; each check is a function whose docstring is the rule."""
