"""A nitro-cli without Nitro: a real executable, daemons, vsock sockets, and payload processes for enclaves.

What it prints, how it ends, and in what ways it fails are the real one's, read off its sources and compared
with the real binary by tests/nitro/contract/. The host around it (device, CPU pool, hugepages, boot
time, faults) is described by ``fake.json`` beside its ``bin`` folder; see ``tests.nitro.host``.
"""
