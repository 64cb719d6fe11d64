"""Challengers on live requests: shadow and canary."""
