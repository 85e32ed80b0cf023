"""Servers of the tests' own: fakes that share no code with ours, and ones that break a rule on purpose."""
