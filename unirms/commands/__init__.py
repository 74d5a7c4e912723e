"""The commands of the command line, a module for each; heavy imports stay inside the functions."""
