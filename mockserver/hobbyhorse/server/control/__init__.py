"""The control plane under `/_mock`: access check, routes, handlers; `server.app` imports it on first use."""
