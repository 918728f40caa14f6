"""``python -m enclavectl``: the same command line as ``enclavectl``."""

from enclavectl.cli.main import main

if __name__ == "__main__":
    main()
