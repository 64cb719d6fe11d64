"""The web page of the service: one file, no other host."""
