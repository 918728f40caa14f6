"""What is measured and trusted: the program that runs inside the enclave.

Nothing here may import ``enclavectl``; tests/test_architecture.py holds the allow-list of imports.
"""
