"""Tells subscribers what waits for them in the outbox: by e-mail, SMS and webhook."""
