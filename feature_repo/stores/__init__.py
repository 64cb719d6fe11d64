"""How the feature store is opened, and where its offline files lie."""
