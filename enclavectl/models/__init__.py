"""Model cards: read, find, fetch."""
