"""Test a client or a server against a contract."""
