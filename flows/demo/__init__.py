"""The demo: the whole pipeline on embedded defaults, with a Prefect server of its own."""
