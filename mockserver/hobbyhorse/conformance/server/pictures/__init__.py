"""Pictures of the suite's own: at the documented limits, and beyond them."""
