"""`drawbridge up`: real stores, services and workers as supervised child processes."""
