"""The suites that judge clients and servers; never imports `server` or `worlds`, to be able to judge other servers."""
