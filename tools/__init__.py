"""Scripts around the project that no user needs: they draw, train and measure."""
