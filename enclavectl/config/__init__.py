"""The configuration: each setting's kind, value and source."""
