"""Files of a home: atomic writes, locks, hash chains, Parquet tables and DuckDB sessions."""
