"""Plug-ins for Feast and the public modules of the feature store; the sub-packages are internal."""
