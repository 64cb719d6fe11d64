"""Extracts of customers: read, published, dated, compared."""
