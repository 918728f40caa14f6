"""What enclavectl relies on of nitro-cli: the same assertions on the fake and on a real one.

Where the two differ, the fake is wrong. Without ``/dev/nitro_enclaves`` everything up to the launch can be
compared, and the launch's failure.
"""
