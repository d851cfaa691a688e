"""`python -m alignment.cli`, which accelerate launches on every process."""

from alignment.cli import main

main()
