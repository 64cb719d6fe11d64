"""Model training: from published snapshots to a registered bundle."""
