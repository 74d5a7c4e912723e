"""States as files: unirms's own, and those of the frameworks.

A format's reader says where each tensor lies (`tensors.Stored`), and its writer takes them from there, so that a state
larger than the memory goes from one file to another piece by piece. Each reader and each writer runs in a process of
its own.
"""
