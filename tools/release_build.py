"""What long runs need of a build that they do not make themselves."""

import sys
from pathlib import Path


def need_built(*files: Path) -> None:
    """Ends the program with the commands that build it when one of the files is missing."""
    for file in files:
        if not file.is_file():
            sys.exit(f"{file} is missing: cmake --preset release && cmake --build --preset release")
