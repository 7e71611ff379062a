"""``python -m promptmill``."""

from .driver.cli import main

main()
