"""The commands of `nsr-trl`, a module per group: each adds its parsers, and imports nothing heavy before it is run."""
