"""``enclavectl gateway``, and the commands below it, a module each."""
