"""API keys: who may ask what, and the audit of it."""
