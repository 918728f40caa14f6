"""nitro-cli as values: what we ask it (commands), what it answers, why it failed.

The ring's rules: a command is a frozen dataclass with ``to_argv``, an answer one with ``from_json``; parsers
are total and raise ``JsonError`` only; ``run-enclave`` and ``describe-enclaves`` are never killed and
never timed out, because that can take an enclave down; and only ``tool`` runs anything.
https://github.com/aws/aws-nitro-enclaves-cli/tree/v1.5.0
"""
