"""The ``nitro`` backend: AWS Nitro Enclaves through nitro-cli.

::

    CLI --starts--> keeper --starts--> nitro-cli run-enclave --forks--> its daemon (holds the enclave)
                    keeper --starts--> nitro-cli console (debug mode only)

The keeper is our own process for each enclave, in its own session. It launches the enclave under the host's
locks, keeps its console, and records when and how it ended. Ctrl-C, a closed terminal or a killed
``enclavectl`` cannot interrupt it at a moment that would lose an enclave.
"""
