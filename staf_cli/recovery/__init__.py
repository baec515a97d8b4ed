"""Bodies from tracks: the network over crops, and its answers in the image's camera."""
