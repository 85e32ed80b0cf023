"""The faults, found by listing this folder; a module here imports only `scenarios` and `contract`."""
