"""The control plane under `/_mock`; imports the server's parts, and is imported by `server.app` when first used."""
