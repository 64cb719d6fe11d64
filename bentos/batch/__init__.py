"""Batch scoring of the whole customer base."""
