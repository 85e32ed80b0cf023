"""The suite for clients: rules, test cases, search, verdicts, reports; never imports `server` or `worlds`."""
