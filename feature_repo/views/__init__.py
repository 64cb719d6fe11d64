"""Feature views, a file an owner."""
