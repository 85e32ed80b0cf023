"""A local stand-in for asynchronous video-generation providers, and the suite that tests their contract."""
