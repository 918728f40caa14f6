"""The commands below ``enclavectl policy``, a module each."""
