"""Bytes as Feast and Redis spell them: values, entity keys, commands."""
