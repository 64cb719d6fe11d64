"""Wire formats of Feast and Redis: values, entity keys, commands."""
