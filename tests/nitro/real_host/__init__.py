"""A Nitro host in software for the real nitro-cli: a preload library, and the server behind it.

``shim/`` is loaded into nitro-cli, and into enclavectl for its AF_VSOCK. It turns each call of the driver
into a request to ``server.py``, which is the driver and the hypervisor, and vsock into abstract Unix sockets.
An enclave is the payload in a process (the fake's ``Guest``), or a machine of QEMU (``qemu.py``). Nothing
needs root, a device, huge pages or the kernel's vsock.

What the driver does is read off Linux, drivers/virt/nitro_enclaves, and what nitro-cli asks off its sources.
No part of it was compared with a real Nitro host.
"""
