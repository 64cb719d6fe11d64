"""The HTTP server: connections, limits, and the gateway in front of the routes."""
