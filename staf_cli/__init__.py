"""staf: 3D human bodies from video with spatio-temporal alignment fusion."""

__version__ = "0.1.0"
