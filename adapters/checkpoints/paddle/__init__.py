"""PaddlePaddle: `.pdparams` and `.pdopt`."""
