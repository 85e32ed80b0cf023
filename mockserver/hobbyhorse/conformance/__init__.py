"""The contract held against clients and servers; imports nothing of the fake, for it must be able to judge others."""
