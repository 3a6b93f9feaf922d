"""A tiny world to try the objectives in: generated arithmetic, a small model that slips, a run of minutes."""
