"""What a step costs while it runs: memory of the process tree, and tasks done, for the progress line."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil


class PeakMemory:
    """Peak resident memory of this process and all below it (JVM, Python workers, training ranks), in GiB.

    Shared pages count once per process, so it is an upper bound.
    """

    def __init__(self) -> None:
        self.gib = 0.0

    def sample(self) -> None:
        me = psutil.Process()
        total = 0
        for process in [me, *me.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it ended between the listing and the reading
                continue
        self.gib = max(self.gib, total / 2**30)


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
