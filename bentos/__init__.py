"""What answers: bundles, reasons, services."""
