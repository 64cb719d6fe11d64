"""Event deliveries: reading, validation and publication."""
