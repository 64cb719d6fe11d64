"""Decisions from a probability: threshold, profit, reasons, levers and what-ifs."""
