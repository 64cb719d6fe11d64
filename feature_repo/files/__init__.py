"""Files that every part of a home is made of: written whole, locked, chained, queried."""
