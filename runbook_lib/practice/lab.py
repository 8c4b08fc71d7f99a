"""JupyterLab on the notebooks, connected to a practice platform that ends with it.

`python -m runbook_lib.practice.lab [FAULT …] [-- JUPYTERLAB OPTIONS]` breaks the named faults
first (all of them when none is named), so that there is something to find.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from runbook_lib import catalogue
from runbook_lib.practice.faults import FAULTS
from runbook_lib.practice.platform import Platform


def main(words: list[str]) -> NoReturn:
    """Start, break, and become JupyterLab. Exits with 2 where a fault's name is wrong."""
    split = words.index("--") if "--" in words else len(words)
    wanted, options = words[:split] or list(FAULTS), words[split + 1 :]
    if unknown := [name for name in wanted if name not in FAULTS]:
        print(f"There is no fault {unknown[0]}; there are {', '.join(FAULTS)}.", file=sys.stderr)
        sys.exit(2)
    platform = Platform.start()
    for name in wanted:
        FAULTS[name](platform)
        print(f"broke: {name}", flush=True)
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={catalogue.folder()}"]
    # JupyterLab refuses to run as root unless told; on a practice machine that is fine.
    command += ["--allow-root"] if os.geteuid() == 0 else []
    platform.become(command + options)


if __name__ == "__main__":
    main(sys.argv[1:])
