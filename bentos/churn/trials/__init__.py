"""Live trials of a challenger: shadow and canary."""
