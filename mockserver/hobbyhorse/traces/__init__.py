"""Traffic between client and provider as values: traces, annotated traces, HAR; imports `contract` and `scenarios`."""
