"""A server that shares its state with others, and its supervisor if it has several processes."""
