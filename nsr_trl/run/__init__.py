"""A run before it starts: its arguments, what they amount to, whether it can start, and the start."""
