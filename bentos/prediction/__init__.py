"""Predict customers from the online store: features in, scores with reasons out. No HTTP."""
