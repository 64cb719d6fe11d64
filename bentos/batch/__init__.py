"""Scores for every customer of a base."""
