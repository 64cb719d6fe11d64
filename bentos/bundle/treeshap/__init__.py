"""Exact contributions of boosted trees, by look-up."""
