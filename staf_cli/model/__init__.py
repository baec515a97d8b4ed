"""The STAF network: each file is one part of the paper's section 3, staf.py puts them together."""
