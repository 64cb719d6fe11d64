"""The predictor that every way of asking calls: features in, scores with reasons out."""
