"""Model bundles, roll-out, predictions, receipts, the HTTP service and its client."""
