"""Which enclave a command means and what it must prove."""
