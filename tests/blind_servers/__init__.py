"""Four fake servers that others wrote from the documents alone, each with a list of defects to start it with."""
