"""The page for people: one file, no other host."""
