"""Writers of the online stores: selection of rows, their schema, and Redis and SQLite output."""
