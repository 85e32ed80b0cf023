"""Mutation testing of the server suite: the fake serves a contract with one fact changed, the true one judges it."""
