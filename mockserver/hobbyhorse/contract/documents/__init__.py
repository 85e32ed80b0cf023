"""The documents of a contract's folder as they are written: operations, assumption marks, omitted members."""
