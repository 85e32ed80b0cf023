"""Work on contracts."""
