"""The checks of lint, by subject; each check is a function whose docstring is the rule."""
