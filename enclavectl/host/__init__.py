"""The host of enclaves: its facts, its checks, its setup, and plans for enclaves.

Files are read through ``Tree``, programs are run through ``HostProbe``, changes go through ``HostChanger``.
So a recorded folder can replace this machine. Nothing here prints, or starts a process by itself.
"""
