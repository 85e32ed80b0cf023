"""The checks of `contracts lint`, one module for each topic; a check is a function whose docstring is the rule."""
