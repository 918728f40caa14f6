"""Why two images measure differently."""
