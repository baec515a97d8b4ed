"""One clip from video to results: clip.py runs the passes, rework.py takes results up again."""
