"""Customer extracts: reading, publication, timestamps, offline rows and changes between snapshots."""
