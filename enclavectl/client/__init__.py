"""The data owner's side, and the library's front door: ``enclavectl.client.session``."""
