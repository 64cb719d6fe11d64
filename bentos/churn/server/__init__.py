"""The HTTP server: connections, limits, the gateway before the routes."""
