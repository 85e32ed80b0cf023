"""The conformance suite for servers: rules, probes, budget and reports; never imports `server` or `worlds`."""
