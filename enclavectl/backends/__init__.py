"""The alternatives that can run the payload: nitro, qemu and local."""
