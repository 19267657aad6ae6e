"""`python -m dynalayer`: the command line."""

from dynalayer.cli import main

main(prog_name="dynalayer")
