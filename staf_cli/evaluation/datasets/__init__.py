"""Datasets of the field in the layouts in which their authors publish them."""
