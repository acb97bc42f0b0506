"""The handwritten digits of scikit-learn, 8x8: real pictures that need no file of ours."""

from __future__ import annotations

import numpy as np

from lib.data.dataset import Dataset, Split, check_sizes


def load(sizes: tuple[int, int] | None = None) -> Dataset:
    """Load 1,500 digits for training and 297 for testing, their 17 greys spread over 0 to 255."""
    import sklearn.datasets  # here, as it loads scipy, which those who train on other pictures do without

    bunch = sklearn.datasets.load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    # The last writers' digits are the test set: none of them was seen in training.
    train, test = (Split.of(images[part], bunch.target[part]) for part in (slice(0, 1500), slice(1500, None)))
    sizes = sizes or (len(train), len(test))
    check_sizes("digits", sizes, (len(train), len(test)))
    where = f"scikit-learn {sklearn.__version__}, load_digits"
    return Dataset.of("digits", "package", where, tuple("0123456789"), train.first(sizes[0]), test.first(sizes[1]))
