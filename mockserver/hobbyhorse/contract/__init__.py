"""A provider's promises, read from a folder of data into frozen values; knows no server."""
