"""enclavectl: confidential machine-learning inference in AWS Nitro Enclaves."""

__version__ = "0.1.0"
