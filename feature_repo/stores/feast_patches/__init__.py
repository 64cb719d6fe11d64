"""Patches for faults of Feast 0.67. See docs/decisions/0037-faults-of-feast.md."""
