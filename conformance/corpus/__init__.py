"""Recorded runs of real old releases, as data; `README.md` beside this file describes the format."""
