"""The checks of `contracts lint`, one module a subject; each check is a function whose docstring is the rule."""
