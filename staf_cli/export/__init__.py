"""Results as files, one module a format; each says what it writes and reads it back if it can."""
