"""API keys: storage, authentication, rights, rate limits and their audit log."""
