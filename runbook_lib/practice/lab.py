"""JupyterLab on the notebooks, connected to a practice platform that ends with it.

`python -m runbook_lib.practice.lab [SCENARIO …] [-- JUPYTERLAB OPTIONS]` breaks it as the named
scenarios say (those of the demonstration when none is named), so that there is something to find.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from runbook_lib import catalogue
from runbook_lib.practice import scenario as scenarios
from runbook_lib.practice.demo import SHOWN
from runbook_lib.practice.platform import Platform


def main(words: list[str]) -> NoReturn:
    """Start, break, and become JupyterLab. Exits with 2 where a scenario's name is wrong."""
    split = words.index("--") if "--" in words else len(words)
    names, options = words[:split] or SHOWN, words[split + 1 :]
    try:
        wanted = [scenarios.find(name) for name in names]
    except scenarios.NoSuchScenario as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    platform = Platform.start()
    for one in wanted:
        scenarios.break_platform(platform, one)
        print(f"broke: {one.title}", flush=True)
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={catalogue.folder()}"]
    # JupyterLab refuses to run as root unless told; on a practice machine that is fine.
    command += ["--allow-root"] if os.geteuid() == 0 else []
    platform.become(command + options)


if __name__ == "__main__":
    main(sys.argv[1:])
