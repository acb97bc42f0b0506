"""What the tests of clustering share: drawn blobs, and mean shift in the plainest words to compare with."""

import numpy as np
import torch

PROFILES = {
    "gaussian": lambda r: np.exp(-0.5 * r**2),
    "flat": lambda r: (r <= 1).astype(float),
    "triangular": lambda r: np.maximum(0, 1 - r),
}


def blobs(n=60, d=2, k=3, seed=0, spread=0.4, box=6.0):
    """Draw n points [n, d] around k places in a box, of equal chance."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(k, d, generator=generator, dtype=torch.float64) * box
    chosen = torch.randint(k, (n,), generator=generator)
    return places[chosen] + spread * torch.randn(n, d, generator=generator, dtype=torch.float64)


def plain(x, bandwidth, kernel, blurring=False, tol=1e-3, max_iter=300):
    """Return the path of mean shift, one row at a time in float64: the points before the first and after each step."""
    x = x.double().numpy()
    path, resting = [x], np.zeros(len(x), bool)
    while len(path) <= max_iter and not resting.all():
        before = path[-1]
        data, after = (before if blurring else x), before.copy()
        for i in range(len(x)):
            if blurring or not resting[i]:
                weights = PROFILES[kernel](np.linalg.norm(data - before[i], axis=1) / bandwidth)
                after[i] = (weights[:, None] * data).sum(0) / weights.sum()
        rests = np.linalg.norm(after - before, axis=1) <= tol * bandwidth
        resting = np.full(len(x), rests.all()) if blurring else resting | rests
        path.append(after)
    return [torch.from_numpy(points) for points in path]


def same_partition(a, b):
    """Tell whether two labellings gather the same points, whatever the names."""
    return torch.equal(a[:, None] == a, b[:, None] == b)


def sorted_rows(x):
    """Return the rows of x in the order of the first column, then the second and so on."""
    return x[np.lexsort(x.numpy().T[::-1])]
