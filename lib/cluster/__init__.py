"""Clustering on tensors: mean shift, in full, by the closest points, and by a grid of its density."""
