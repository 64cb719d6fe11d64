"""The model that serves, and the way of a request to it."""
