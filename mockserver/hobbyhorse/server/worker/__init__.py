"""Work on untrusted input in processes that can be abandoned, taken in turns by key."""
