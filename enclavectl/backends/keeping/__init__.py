"""What the keeper of an enclave does alike on every backend. A new backend takes its keeper from here.

A keeper is the one process that holds an enclave: the supervisor of ``local``, the keeper of ``nitro``. It
outlives the command that started it, or ends with it, and it alone writes down how the enclave ended::

    names.py            what an enclave may be called, and what it is called where nobody says
    records.py          the folder of an enclave, and what is written down before its launch
    locks.py            the lock that a keeper holds while it lives
    identity.py         which process a record means, so that no other one is ever killed
    lifeline.py         the pipe by which a command lets an enclave live on, or ends it
    keeper_process.py   starting a keeper, detaching from it, ending it
    ending.py           how an enclave ended, and what stays of it
"""
