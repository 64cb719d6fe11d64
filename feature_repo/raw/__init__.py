"""Input data: customer snapshots, deliveries of events, and a simulator of both."""
