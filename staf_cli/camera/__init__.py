"""How the camera moves: its rotation, frame by frame, from the background behind the people."""
