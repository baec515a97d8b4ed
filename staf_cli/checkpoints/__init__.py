"""Weights files: their formats, and the registry that finds or fetches them."""
