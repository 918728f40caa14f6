"""Which enclave a command means and what it must prove.

``launch`` has what a command starts, ``verification`` the policy and root, ``target`` the address with both,
and ``session`` the verified conversation. Nothing here prints.
"""
