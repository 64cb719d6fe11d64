"""Labels, training sets and their split."""
