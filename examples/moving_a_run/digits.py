"""The batches of both halves of the example: scikit-learn's handwritten digits, 8 by 8 pixels."""

import numpy as np
from sklearn.datasets import load_digits

BATCH = 64


def batch(step):
    """Return the images (64, 8, 8) in 0 to 1, and the classes (64,), of one step."""
    images, classes = load_digits(return_X_y=True)
    rows = np.random.default_rng(step).permutation(len(images))[:BATCH]
    return (images[rows] / 16).astype(np.float32).reshape(BATCH, 8, 8), classes[rows].astype(np.int64)
