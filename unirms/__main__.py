"""`python -m unirms`: the command line, where the command `unirms` is not on the path."""

from unirms.cli import main

if __name__ == "__main__":
    main()
