"""nitro-cli as typed values: its commands, its answers, its failures.

The room's rules: a command is a frozen dataclass with ``to_argv``, an answer one with ``from_json``. Parsers
are total and raise only ``JsonError``. ``run-enclave`` and ``describe-enclaves`` are never killed and have no
timeout, because ending them can end an enclave. Only ``tool`` runs commands.
https://github.com/aws/aws-nitro-enclaves-cli/tree/v1.5.0
"""
