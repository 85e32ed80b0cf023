"""The notations of a contract: runtime expressions, job ids, signatures, paths. Imports only `contract`."""
