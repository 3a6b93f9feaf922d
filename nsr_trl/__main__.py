"""`python -m nsr_trl` is the `nsr-trl` command."""

from .cli import main


main()
