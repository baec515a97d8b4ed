"""Recovered bodies fitted to 2D keypoints, and smoothed."""
