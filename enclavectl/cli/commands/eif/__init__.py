"""The commands below ``enclavectl eif``, a module each."""
