"""Rendering of synthetic people: cameras, light, backgrounds, and the flaws of a real camera."""
