"""What an enclave needs of its host, how a host is read, and how it is changed.

Files are read through ``Tree``, programs through ``HostProbe``; changes go through ``HostChanger``. So a
recorded folder is as good a host as this machine. Nothing here prints or starts a process by itself.
"""
