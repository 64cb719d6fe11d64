"""Values, and the one typed reader of them."""
