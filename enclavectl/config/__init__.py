"""Every setting: its kind, its value, and where the value came from."""
