"""The commands below ``enclavectl remote``, a module each."""
