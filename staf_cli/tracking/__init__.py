"""Who is where: detection, linking into tracks, shot cuts, edits by hand."""
