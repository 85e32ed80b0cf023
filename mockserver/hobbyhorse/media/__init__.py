"""Input pictures and output videos: decoding, encoding, probing; imports only `contract`, and knows no HTTP and no clock."""
