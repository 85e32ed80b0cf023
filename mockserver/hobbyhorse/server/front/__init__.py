"""The ways to the server besides its plain port: TLS, a forward proxy, and reverse proxies before it."""
