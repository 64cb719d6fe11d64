"""Reads of the online stores by a plan made once for each set of features."""
