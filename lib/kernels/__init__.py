"""One matrix product, from a Python loop to a tiled CUDA kernel, and pairwise distances."""
