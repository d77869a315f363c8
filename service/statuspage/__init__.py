"""What customers see: the status page, its feeds, its badges, and JSON for Statuspage clients."""
