"""Input pictures and output videos: decoding, encoding, probing; no HTTP, no clock, imports only `contract`."""
