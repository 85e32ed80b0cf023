"""Figures about the running server, for monitoring: counted in plain numbers, written for Prometheus on request."""
