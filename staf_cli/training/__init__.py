"""Makes the open weights: synthetic people, labels, losses and the loop that trains on them."""
