"""Metrics of scores: ranking and calibration errors, profit, and their significance."""
