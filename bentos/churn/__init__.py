"""The HTTP service: predictions from the champion bundle and the online features."""
