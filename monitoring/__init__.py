"""Reports on data and models: (reference, current) -> report."""
