"""Reads of the online stores by a plan that is made once per set of features."""
