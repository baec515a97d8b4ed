"""The command line: `staf` and its commands. app.py puts them together."""
