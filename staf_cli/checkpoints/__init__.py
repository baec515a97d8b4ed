"""Weights files: their formats, and where they are found or fetched."""
