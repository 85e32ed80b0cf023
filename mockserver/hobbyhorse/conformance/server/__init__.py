"""The suite for servers: rules, probes, budget, reports; never imports the package's own `server` or `worlds`."""
