"""The outer skin: options, the one error boundary, and everything that is drawn."""
