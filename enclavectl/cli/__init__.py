"""The command line: options, the error boundary, and all output."""
