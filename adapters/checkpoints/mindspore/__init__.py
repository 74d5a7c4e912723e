"""MindSpore: `.ckpt`."""
