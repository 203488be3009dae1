"""For spark-submit: run files of `jobs/` one after the other in one process and session, each as if it had been submitted alone.

The first argument names them, comma-separated; each gets the others.
"""

import runpy
import sys
from pathlib import Path

_JOBS = Path(__file__).resolve().parents[2] / "jobs"

names = sys.argv.pop(1)
for name in names.split(","):
    sys.argv[0] = str(_JOBS / f"{name}.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
