"""What every package builds on: records, geometry, files, errors."""
