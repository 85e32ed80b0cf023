"""Look into a kept state."""
