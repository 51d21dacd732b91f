"""`python -m graphopt` is the command line."""

from graphopt.cli.app import main

main()
