"""`python -m sternpost`, as `torchrun -m sternpost` starts it: the command line."""

from sternpost.cli import main

main()
