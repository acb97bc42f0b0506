"""Clustering on tensors: mean shift, in full, by the closest points, and by a grid of its density."""

from lib.cluster.bandwidth import estimate_bandwidth
from lib.cluster.mean_shift import Clusters, mean_shift

__all__ = ["Clusters", "estimate_bandwidth", "mean_shift"]
