"""The notations that a contract uses: runtime expressions, job ids, signatures, paths; imports only `contract`."""
