"""Labels, training sets and their split. See docs/decisions/0014-snapshots-over-time.md."""
