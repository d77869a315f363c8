"""The status page's truth: components, incidents, maintenance windows; pure rules beside stores."""
