"""Clustering on tensors: mean shift, k-means and DBSCAN; nearest neighbours and product quantisation."""
