"""Train the open weights: synthetic people, photos, losses and both training stages."""
