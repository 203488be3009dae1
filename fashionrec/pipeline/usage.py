"""What a step costs while it runs: memory of the run's processes, and a thread that looks every second."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

PEAK_IS = (
    "highest sum of the resident memory of the run's processes on the driver's machine: Python, the JVM, Python workers, engines and "
    "training ranks; pages that they share count in each, executors on other machines are not seen"
)


class PeakMemory:
    """The run's peak memory so far, in GiB; see `PEAK_IS`."""

    def __init__(self) -> None:
        self.gib = 0.0

    def sample(self) -> None:
        top = _topmost()
        total = 0
        for process in [top, *top.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it ended between the listing and the reading
                continue
        self.gib = max(self.gib, total / 2**30)


def _topmost() -> psutil.Process:
    """Return the process that the run's others descend from: spark-submit's JVM starts Python, embedded Python starts the JVM."""
    process = psutil.Process()
    parent = process.parent() if "PYSPARK_GATEWAY_PORT" in os.environ else None
    return parent if parent and parent.name() == "java" else process


@contextmanager
def every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at once, every `seconds` in a thread while the block runs, and once more at its end."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            act()
            stop.wait(seconds)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        act()
