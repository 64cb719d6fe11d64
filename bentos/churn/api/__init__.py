"""Request and response bodies of the service's routes, and its OpenAPI document."""
