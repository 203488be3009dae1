"""The vLLM engine of this process: one, loaded at its first use and kept while prompts come.

Spark's workers import this module by name, so what it holds outlives a task; pickled by value, each task would load an engine anew.
"""

import fcntl
import gc
import json
import logging
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

from fashionrec.lake.storage import here
from fashionrec.llm.base import LanguageModelError
from fashionrec.settings.model import BaseLanguageModel

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

# How long an engine without work is kept: long enough for the next task, short enough to give its memory to the next step.
IDLE_SECONDS = 3.0
# How long to wait for another engine of the device that is about to end.
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is made from.

    Attributes:
        model: folder of the merged weights and their tokenizer; with an adapter, folder or hub name of the base.
        dtype: their number format.
        device: "cpu" or "cuda".
        max_tokens: most tokens of prompt and answer together.
        cpu_kv_cache_gib: GiB of the key-value cache, on CPU.
        gpu_memory_rate: share of the GPU's memory, on CUDA.
        seed: of the sampling. (A seed per request brought the CPU engine down.)
        revision: of a base on a hub.
        adapter: folder of an adapter that every request names (see `lora_request`); "" where it is merged.
    """

    model: str
    dtype: str
    device: Literal["cpu", "cuda"]
    max_tokens: int
    cpu_kv_cache_gib: int
    gpu_memory_rate: float
    seed: int
    revision: str = ""
    adapter: str = ""

    def here(self) -> "EngineConfig":
        """Return the same with the folders as they lie on the machine of this process."""
        model, adapter = (str(here(Path(path))) if path.startswith("/") else path for path in (self.model, self.adapter))
        return replace(self, model=model, adapter=adapter)


def engine_config(base: BaseLanguageModel, folder: Path, **options: Any) -> EngineConfig:
    """Return the configuration that serves the trained model of `folder`: its `merged` weights, or else its `adapter` beside the base."""
    merged = folder / "merged"
    if merged.is_dir():
        return EngineConfig(model=str(merged), dtype=base.dtype, **options)
    return EngineConfig(model=base.path, revision=base.revision, adapter=str(folder / "adapter"), dtype=base.dtype, **options)


def lora_request(adapter: str) -> "LoRARequest | None":
    """Return what a request says to be answered with the engine's adapter, of which there is one."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(Path(adapter).parent.name, 1, adapter) if adapter else None


def device_id(config: EngineConfig) -> str:
    """Name the device for its lock: a GPU by its number, the CPU by the process that all workers of one executor come from."""
    if config.device == "cpu":
        return f"cpu-{os.getppid()}"
    return f"cuda-{os.environ.get('CUDA_VISIBLE_DEVICES', '0')}"


@dataclass
class _Held:
    config: EngineConfig
    engine: "LLM"
    lock: IO[str]


_held: _Held | None = None
_guard = threading.RLock()
_timer: threading.Timer | None = None


@contextmanager
def engine(config: EngineConfig, *, device_id: str) -> Iterator["LLM"]:
    """Yield this process's engine, loaded if it is not there yet; `IDLE_SECONDS` after the last use its memory is given back.

    Args:
        device_id: which device, the same for all processes that share it.

    Raises:
        LanguageModelError: another process holds an engine on the device, or the engine did not start.
    """
    global _held, _timer  # noqa: PLW0603
    with _guard:
        if _timer:
            _timer.cancel()
        if _held and _held.config != config:
            _release()
        if not _held:
            lock = _lock_device(device_id)
            try:
                _held = _Held(config, _load(config), lock)
            except BaseException:
                # The error would keep the device as long as somebody keeps the error.
                lock.close()
                raise
        try:
            yield _held.engine
        finally:
            _timer = threading.Timer(IDLE_SECONDS, _release)
            _timer.daemon = True
            _timer.start()


def _load(config: EngineConfig) -> "LLM":
    _prepare_environment(config)
    # It warns of deprecations in torch that are its own to mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")
    from vllm import LLM

    options: dict[str, Any] = {} if config.device == "cpu" else {"gpu_memory_utilization": config.gpu_memory_rate}
    try:
        if config.adapter:
            options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _lora_rank(Path(config.adapter))}
        return LLM(
            config.model,
            revision=config.revision or None,
            tokenizer_revision=config.revision or None,
            dtype=config.dtype,
            max_model_len=config.max_tokens,
            seed=config.seed,
            trust_remote_code=False,
            # Weights, configuration and tokenizer as transformers reads them in training; a repository may hold other forms beside them.
            load_format="safetensors",
            config_format="hf",
            tokenizer_mode="hf",
            enforce_eager=config.device == "cpu",
            enable_prefix_caching=True,
            use_tqdm_on_load=False,
            **options,
        )
    except Exception as error:  # weights, adapter, memory, device: each has errors of its own
        reason = str(error).strip().replace("\n", " ")
        raise LanguageModelError(f"the engine did not start on {config.device}: {reason}; see generation in the settings") from error


def _lora_rank(adapter: Path) -> int:
    """Return the smallest rank that vLLM has room for and an adapter fits into."""
    from vllm.config.lora import MaxLoRARanks

    rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    rooms: tuple[int, ...] = get_args(MaxLoRARanks)
    if rank > max(rooms):
        raise LanguageModelError(f"adapter {adapter} has rank {rank}, vLLM serves up to {max(rooms)}; lower llm.lora_rank and train anew")
    return min(room for room in rooms if room >= rank)


def _prepare_environment(config: EngineConfig) -> None:
    """Set what vLLM and its libraries read when they are imported."""
    # Its own setting takes effect after its first lines.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    os.environ |= {
        # In this process: 3 to 5 s to load instead of 29 to 53.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if Path(config.model).is_dir():
        # Nothing is asked of a hub.
        os.environ["HF_HUB_OFFLINE"] = "1"
    if config.device == "cpu":
        # Spark gives its workers one thread per task CPU, with which the engine is 4 to 7 times slower on cores of its own.
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(config.cpu_kv_cache_gib)
        # Threads that spin, or are bound to a core, while another process wants it made the engine 7 times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def _lock_device(device_id: str) -> IO[str]:
    path = Path(tempfile.gettempdir()) / f"fashionrec-engine-{os.getuid()}-{device_id}.lock"
    file = path.open("w", encoding="utf-8")
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            file.close()
            raise LanguageModelError(
                f"device {device_id} has an engine of another process already; set generation.engines to the number of devices, "
                "or wait for the other run"
            ) from None
        return file


def _release() -> None:
    """Give the engine's memory and its device back."""
    global _held
    with _guard:
        if not _held:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        held, _held = _held, None
        with held.lock:
            held.engine.llm_engine.engine_core.shutdown()
            del held
            cleanup_dist_env_and_memory()
            gc.collect()
            _trim()


def _trim() -> None:
    """Return freed heap pages to the system, which glibc would keep."""
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another libc keeps its own ways
        return
