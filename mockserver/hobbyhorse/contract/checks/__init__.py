"""The checks of `contracts lint`, one module for each topic. A check is a function whose docstring is the rule."""
