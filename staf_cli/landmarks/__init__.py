"""A second opinion of each person: the points, metres and mask of BlazePose GHUM, crop by crop."""
