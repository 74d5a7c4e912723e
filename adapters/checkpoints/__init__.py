"""The file formats of the frameworks: a folder each, with what several of them need beside these.

Where the functions of `unirms.checkpoints.formats.Format` are, the table there says. A module imports what it needs at
the top, and nothing imports one but a process that is to read or write its format.
"""
