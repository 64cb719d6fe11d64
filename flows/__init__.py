"""The command line, the Prefect flows, and the steps that both call."""
