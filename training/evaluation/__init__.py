"""Cross-validation and its report."""
