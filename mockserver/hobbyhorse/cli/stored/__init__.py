"""What the commands that look into a kept state share."""
