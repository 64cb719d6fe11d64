"""Deliveries of events: read, judged, published."""
