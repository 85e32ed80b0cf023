"""The written forms that a contract names: runtime expressions, job ids, signatures, nearest matches; imports only `contract`."""
