"""What Feast 0.67 does wrong, mended in the place of its own functions."""
