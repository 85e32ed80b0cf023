"""The fake provider, in process and on a socket; never imports `conformance` or Hypothesis, so that it starts fast."""
