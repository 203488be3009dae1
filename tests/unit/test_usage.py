"""The peak memory of a run is that of all its processes, whichever of them started the others."""

import os
import subprocess
import sys
from pathlib import Path

from fashionrec.pipeline.usage import PeakMemory
from tests.builders import ROOT

MIB = 300
HOLD = f"held = bytearray({MIB} << 20)"
SAMPLE = "from fashionrec.pipeline.usage import PeakMemory; peak = PeakMemory(); peak.sample(); print(peak.gib)"


def test_what_this_process_starts_is_seen():
    code = f"{HOLD}; print('held', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    alone, both = PeakMemory(), PeakMemory()
    assert child.stdout.readline() == "held\n"
    both.sample()
    child.communicate("\n")
    alone.sample()
    assert both.gib - alone.gib > 0.9 * MIB / 1024


def seen_below_a_jvm(folder: Path, **environment: str) -> float:
    """Return what a Python process sees whose parent is called java and holds memory."""
    java = folder / "java"
    java.symlink_to(sys.executable)
    # The interpreter finds its packages by its own name, which is java's here.
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    code = f"import subprocess, sys; {HOLD}; subprocess.run([{sys.executable!r}, '-c', {SAMPLE!r}], check=True)"
    found = subprocess.run(
        [str(java), "-c", code], env={**os.environ, "PYTHONPATH": paths, **environment}, capture_output=True, text=True, check=True
    )
    return float(found.stdout)


def test_under_spark_submit_the_jvm_that_started_python_is_seen(tmp_path):
    assert seen_below_a_jvm(tmp_path, PYSPARK_GATEWAY_PORT="1") > 0.9 * MIB / 1024


def test_a_java_that_is_no_part_of_the_run_is_not_seen(tmp_path):
    assert seen_below_a_jvm(tmp_path) < 0.9 * MIB / 1024
