"""Body models in SMPL format: skinning, and reading their files without running code."""
