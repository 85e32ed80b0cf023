"""Servers for the tests: fakes that share no code with ours, and servers that break a rule on purpose."""
