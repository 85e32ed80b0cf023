"""One file per command: `serve.py` is `hobbyhorse serve`, and `contracts_lint.py` is `hobbyhorse contracts lint`."""
