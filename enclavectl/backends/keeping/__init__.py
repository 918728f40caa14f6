"""The parts of a keeper that all backends share. A new backend takes its keeper from here.

A keeper is the process that holds an enclave: the supervisor of ``local``, the keeper of ``nitro``. It
outlives the command that started it, or ends with it, and only the keeper records how the enclave ended::

    names.py            the valid names of enclaves, and generated names
    records.py          the folder of an enclave, and its record written before the launch
    locks.py            the lock that a keeper holds while it lives
    identity.py         the identity of a recorded process, so that no other one is ever killed
    lifeline.py         the pipe by which a command releases an enclave, or ends it
    keeper_process.py   the start of a keeper, detaching from it, its end
    ending.py           how an enclave ended, and its entry in the history
"""
