"""Keras 3: `.keras` and `.weights.h5`."""
