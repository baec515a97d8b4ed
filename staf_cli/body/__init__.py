"""Body models in SMPL format: skinning, and reading files without running code."""
