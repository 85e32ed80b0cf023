"""A server whose worlds are shared with other processes: each request is served by the owner of its world."""
