"""The file formats of the frameworks: a module each, with the functions of `unirms.checkpoints.formats.Format`.

A module imports what it needs at the top, and nothing imports a module but a process that is to read or write its
format.
"""
