"""The command line, the Prefect flows, and the step functions that both call."""
