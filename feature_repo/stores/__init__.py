"""Feast's plug-ins of this project, and what others call of the feature store; rooms behind them are theirs alone."""
