"""The enclave that a command addresses, and the proof that it must give.

``launch`` has the enclave to start, ``verification`` the policy and root, ``target`` the address with both,
and ``session`` the verified session. Nothing here prints.
"""
