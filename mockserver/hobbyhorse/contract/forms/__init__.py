"""The notations of a contract: runtime expressions, job ids, signatures, paths; imports only `contract`."""
