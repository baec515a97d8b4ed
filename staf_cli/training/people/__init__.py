"""Synthetic people: motions, random poses and how likely they are, bodies, clothes, hair, skins."""
