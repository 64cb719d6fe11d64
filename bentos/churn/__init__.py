"""The HTTP service: champion bundle, online features, one answer a customer."""
