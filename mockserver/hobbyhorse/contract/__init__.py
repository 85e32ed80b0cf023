"""A provider's promises, read from a folder of data into frozen values; imports no other folder."""
