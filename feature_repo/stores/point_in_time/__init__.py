"""The point-in-time join and the retrieval jobs of the offline store."""
