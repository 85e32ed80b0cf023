"""Mutation testing of the package: find individual changes of its code that no test notices."""
