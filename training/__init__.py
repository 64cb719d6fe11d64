"""From published snapshots to a bundle that may serve."""
