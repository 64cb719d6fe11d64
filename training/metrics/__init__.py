"""Metrics of scores: ranking and calibration errors, profit, and their significance.

See docs/decisions/0019-promotion-needs-proof.md.
"""
