"""Traffic between a client and a provider as values: traces, the annotated trace, HAR; imports `contract` and `scenarios`."""
