"""People in a video: detection, linking to tracks, shot cuts, edits by hand."""
