"""The fake provider as an ASGI application and on a socket; never imports `conformance` or Hypothesis: both are slow."""
