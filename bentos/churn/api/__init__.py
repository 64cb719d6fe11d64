"""What the service's routes take and give."""
