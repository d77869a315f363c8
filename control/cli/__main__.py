"""`python -m control.cli` is the `drawbridge` command."""

from control.cli import main

main()
