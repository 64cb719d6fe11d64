"""Month-by-month simulator of a Telco population.

Writes extracts, events and the ground truth. See docs/simulator.md.
"""
