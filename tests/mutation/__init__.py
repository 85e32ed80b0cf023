"""Mutation testing of the package: which single changes of its code no test notices."""
