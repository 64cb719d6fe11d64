"""Exact TreeSHAP contributions of boosted trees by table look-up."""
