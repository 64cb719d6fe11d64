"""What arrives: snapshots of customers, deliveries of events, and a simulator of both."""
