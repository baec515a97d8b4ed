"""Scripts for people who work on staf; not part of the wheel."""
