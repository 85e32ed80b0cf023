"""The documents of a contract's folder, as written: operations, assumption marks, omitted members."""
