"""Configuration files, and the typed reader of them: :mod:`configs.settings`."""
