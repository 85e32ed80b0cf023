"""The suites that judge clients and servers; never imports `server` or `worlds`, because it must be able to judge others."""
