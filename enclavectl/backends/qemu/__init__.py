"""The backend ``qemu``: the image that was built, booted by QEMU's nitro-enclave machine on this host."""
