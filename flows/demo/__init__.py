"""The whole job on embedded defaults, on a Prefect server of its own."""
