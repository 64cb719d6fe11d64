"""Predict customers from the online store: features in, scores with reasons out. No HTTP.

Used by the HTTP service; batch scoring and replay use the bundle alone. See docs/decisions/0024-answered-together.md.
"""
