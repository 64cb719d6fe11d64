"""The estimator: its columns, tuning, calibration and fingerprint."""
