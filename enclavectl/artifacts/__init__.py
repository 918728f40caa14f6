"""The files that a build leaves and others read: the lock, the boot files, their names."""
