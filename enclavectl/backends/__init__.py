"""The backends, which run enclaves: alternatives with one interface, ``base.Backend``."""
