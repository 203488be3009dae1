"""A base model in 4 bit, as QLoRA trains on it (paper section 4.2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fashionrec.llm.base import LanguageModelError, load_base
from fashionrec.settings.model import BaseLanguageModel

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


def load_quantised(base: BaseLanguageModel, *, device: str, sharded: bool = False) -> "PreTrainedModel":
    """Return the base in nf4 with double quantisation; it computes in `compute_dtype`.

    Args:
        device: where its weights go: "cpu", "cuda:0", ...
        sharded: whether FSDP will share it out among ranks.

    Raises:
        LanguageModelError: it cannot be read, or a linear layer that `lora_targets` names is not there or was not quantised.
    """
    import torch
    from transformers import BitsAndBytesConfig

    compute = compute_dtype(device)
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        # FSDP shares out weights of floating types only; of others it would keep a whole copy on every rank.
        bnb_4bit_quant_storage=torch.bfloat16 if sharded else torch.uint8,
    )
    with falcon_layers_as_linear():
        model = load_base(base, quantization_config=config, device_map={"": device}, dtype=compute)
    _require_4bit(model, base)
    _keep_differentiable(model)
    return model


def compute_dtype(device: str) -> "torch.dtype":
    """Return the number format of activations: float32 on CPU, bfloat16 on a GPU that has it, and float16 on older ones (V100)."""
    import torch

    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def count_4bit_modules(model: "nn.Module") -> int:
    """Return how many linear layers of a model hold 4-bit weights."""
    from bitsandbytes.nn import Linear4bit

    return sum(isinstance(module, Linear4bit) for module in model.modules())


def _require_4bit(model: "nn.Module", base: BaseLanguageModel) -> None:
    """Refuse a model of which not every module that is to get an adapter is in 4 bit.

    transformers says `is_loaded_in_4bit` even where it has replaced nothing, and PEFT passes over a name that fits nothing beside others.
    """
    from bitsandbytes.nn import Linear4bit
    from torch import nn

    modules = dict(model.named_modules())
    fitting = {target: [name for name in modules if f".{name}".endswith(f".{target}")] for target in base.lora_targets}
    if missing := [target for target, names in fitting.items() if not names]:
        linear = sorted({name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, nn.Linear)})
        raise LanguageModelError(
            f"base model {base.path}: lora_targets names {', '.join(missing)}, which it does not have; its linear layers are "
            f"{', '.join(linear)}; correct the file of llm.base"
        )
    targeted = {name for names in fitting.values() for name in names}
    if others := sorted(name for name in targeted if not isinstance(modules[name], Linear4bit)):
        share = "no module was" if len(others) == len(targeted) else f"only {len(targeted) - len(others)} of {len(targeted)} modules were"
        raise LanguageModelError(
            f"base model {base.path}: {share} quantised to 4 bit of those that lora_targets names; not {others[0]} and "
            f"{len(others) - 1} more: {type(modules[others[0]]).__name__} is no linear layer that is known"
        )


def _keep_differentiable(model: "nn.Module") -> None:
    """Switch off bitsandbytes' packing of weights for bfloat16 inference on CPU.

    On CPUs with AVX512-BF16 it packs a layer for good at its first pass outside training, and the packed layer passes no gradient on:
    training after a first measurement of the loss would silently reach only what lies behind it.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def falcon_layers_as_linear() -> Iterator[None]:
    """While the block runs, Falcon models are built from plain linear layers.

    transformers quantises a module only where its type is exactly `nn.Linear`; Falcon's own subclass computes the same and is passed
    over silently.
    """
    from torch import nn
    from transformers.models.falcon import modeling_falcon

    original = modeling_falcon.FalconLinear
    modeling_falcon.FalconLinear = nn.Linear
    try:
        yield
    finally:
        modeling_falcon.FalconLinear = original
