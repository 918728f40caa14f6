"""Files for other supervisors, such as systemd."""
