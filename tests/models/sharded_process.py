"""A rank of a model that is shared out as accelerate does it on GPUs (FSDP2): torchrun -m tests.models.sharded_process BASE ADAPTER."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from fashionrec.llm.fine_tune import trained_weights, with_adapter
from fashionrec.settings import load_settings
from fashionrec.settings.model import BaseLanguageModel

IDS = torch.arange(1, 65).reshape(2, 32)


def new_model(base: BaseLanguageModel):
    """Return a base with an adapter that does something, the same each time."""
    # The settings refuse it: accelerate shares nothing out on CPU.
    model = with_adapter(load_settings().llm.model_copy(update={"base": base, "sharding": "fsdp", "lora_dropout": 0.0}))
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=0.05)
    return model


def gradient_norms(model) -> list[float]:
    gradients = [weights.grad for weights in model.parameters() if weights.requires_grad]
    return [float(getattr(gradient, "full_tensor", lambda whole=gradient: whole)().norm()) for gradient in gradients]


def main(base: BaseLanguageModel, adapter: Path) -> None:
    dist.init_process_group("gloo")
    model = new_model(base)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.base_model.model.transformer.h:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    of_this_rank = IDS[dist.get_rank()][None]
    loss = model(input_ids=of_this_rank, labels=of_this_rank).loss
    loss.backward()
    held = sum(weights.to_local().nbytes for weights in model.parameters())
    gradients, weights, both = gradient_norms(model), trained_weights(model), loss.detach()
    dist.all_reduce(both)
    if dist.get_rank() == 0:
        model.save_pretrained(str(adapter), state_dict=weights)
        print(json.dumps({"loss": float(both) / 2, "gradients": gradients, "bytes": held}))  # noqa: T201
    dist.destroy_process_group()


if __name__ == "__main__":
    main(BaseLanguageModel.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
