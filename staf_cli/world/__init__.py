"""People in the world: y up, metres, on one ground that all share, with feet that stand."""
