"""The model owner's side: sealing weights, and releasing their key to attested enclaves only."""
