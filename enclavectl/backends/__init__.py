"""What runs the payload: alternatives with one interface, ``base.Backend``."""
