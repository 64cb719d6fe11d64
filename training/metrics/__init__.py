"""What a score is worth: errors, profit, and what chance has in it."""
