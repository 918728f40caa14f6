"""The ``local`` backend: the payload as a child process of a supervisor that plays the hypervisor.

::

    CLI --starts--> supervisor (measures, signs, keeps the console)  --starts--> child (the payload)

It protects nothing from the owner of the machine: trust is ``simulated``.
"""
