"""`python -m tokexp` is the command `tokexp`."""

from tokexp.cli import main

main()
