"""Networks measured on videos and photos whose truth is known."""
