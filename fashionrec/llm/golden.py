"""Golden prompts: a few held-out prompts and their greedy answers, with which every later form of a model is compared."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionrec.errors import UserError
from fashionrec.llm.base import LanguageModelError
from fashionrec.llm.engine import EngineConfig, device_id, engine, engine_config, lora_request
from fashionrec.llm.examples import Example
from fashionrec.llm.job import TrainingJob

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from vllm import LLM, RequestOutput

MIN_AGREEMENT = 0.95
_PROMPTS = 8
_FILE = "golden.json"
# The check asks for eight short answers.
_CPU_KV_CACHE_GIB = 1
_GPU_MEMORY_RATE = 0.9


@dataclass(frozen=True)
class Golden:
    """A prompt and its greedy answer, as text for people and as token ids."""

    prompt: str
    answer: str
    prompt_ids: list[int]
    answer_ids: list[int]


@dataclass(frozen=True)
class Agreement:
    """Shares (0 to 1) of the golden answers' tokens that another model chooses, too, and of the answers that it gives whole."""

    tokens: float
    answers: float


def answer_greedily(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example]) -> list[Golden]:
    """Return the most probable answer, token by token, to the first few examples' prompts, each at most as long as the known response.

    So prompt and answer fit into whatever the examples fit into. A loop of its own, for what a hub's generation settings change.
    """
    import torch

    answered = []
    for example in examples[:_PROMPTS]:
        prompt = example["input_ids"][: example["prompt_length"]].tolist()
        longest = len(example["input_ids"]) - len(prompt) - 1  # but for the end-of-sequence token
        answer: list[int] = []
        step, cache = prompt, None
        with torch.inference_mode():
            while len(answer) < longest and tokenizer.eos_token_id not in answer:
                output = model(input_ids=torch.tensor([step], device=model.device), past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                step = [int(output.logits[0, -1].argmax())]
                answer += step
        answered.append(Golden(tokenizer.decode(prompt), tokenizer.decode(answer), prompt, answer))
    return answered


def save(answers: Sequence[Golden], folder: Path) -> None:
    """Write the golden prompts and answers into a model's folder, so that whoever serves it can check it."""
    (folder / _FILE).write_text(json.dumps([asdict(answer) for answer in answers], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(folder: Path) -> list[Golden]:
    """Return the golden prompts and answers of a model's folder."""
    return [Golden(**row) for row in json.loads((folder / _FILE).read_text(encoding="utf-8"))]


def compare(model: "PreTrainedModel", answers: Sequence[Golden]) -> Agreement:
    """Return how far a model of transformers agrees; each token is asked for behind the golden answer's earlier ones.

    A token that is as probable as the best one counts as chosen.
    """
    import torch

    chosen: list[list[bool]] = []
    for golden in answers:
        ids = torch.tensor([golden.prompt_ids + golden.answer_ids], device=model.device)
        wanted = ids[0, len(golden.prompt_ids) :]
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=len(wanted) + 1).logits[0, :-1]
        chosen.append((logits.gather(1, wanted[:, None])[:, 0] >= logits.max(1).values).tolist())
    # Greedily it would answer the same where it chooses every token.
    return Agreement(_share([place for places in chosen for place in places]), _share([all(places) for places in chosen]))


def compare_served(llm: "LLM", answers: Sequence[Golden], *, adapter: str) -> Agreement:
    """Return how far an engine agrees: on tokens as `compare` does, on answers by answering.

    Each place is a request of its own, which the prefix cache makes cheap: log-probabilities of a prompt fail beside an adapter on CPU.
    """
    from vllm import SamplingParams

    request = lora_request(adapter)
    places = [(golden.prompt_ids + golden.answer_ids[:place], token) for golden in answers for place, token in enumerate(golden.answer_ids)]
    one = SamplingParams(max_tokens=1, temperature=0, logprobs=2)
    found = llm.generate([{"prompt_token_ids": ids} for ids, _ in places], one, use_tqdm=False, lora_request=request)
    chosen = [_chooses(output, token) for output, (_, token) in zip(found, places, strict=True)]
    whole = [SamplingParams(max_tokens=len(golden.answer_ids), temperature=0) for golden in answers]
    given = llm.generate([{"prompt_token_ids": golden.prompt_ids} for golden in answers], whole, use_tqdm=False, lora_request=request)
    equal = [list(output.outputs[0].token_ids) == golden.answer_ids for golden, output in zip(answers, given, strict=True)]
    return Agreement(_share(chosen), _share(equal))


def _chooses(output: "RequestOutput", token: int) -> bool:
    (place,) = output.outputs[0].logprobs or [{}]
    return token in place and place[token].logprob >= max(other.logprob for other in place.values())


def require(agreement: Agreement, other: str, advice: str) -> None:
    """Refuse a model that chooses other tokens than the trained one.

    Raises:
        LanguageModelError: naming the other model, how far they agree, and what to do.
    """
    # Said this way round, no number is refused as well.
    if not agreement.tokens >= MIN_AGREEMENT:
        raise LanguageModelError(
            f"{other} chooses {agreement.tokens:.1%} of the tokens that the base with its adapter answers golden prompts with, "
            f"{MIN_AGREEMENT:.0%} are needed; {advice}"
        )


def check_served(job: TrainingJob) -> dict[str, Any]:
    """Load what a job has made into vLLM, on the job's device, and return the figures, or {"error": text} where its user can mend it.

    To be called in a process of its own when training's has ended: only then is the device free. Figures: `served_agreement` and
    `served_equal_answers` (see `Agreement`).
    """
    try:
        config = engine_config(
            job.llm.base,
            job.output,
            device=job.llm.device,
            max_tokens=job.max_tokens,
            cpu_kv_cache_gib=_CPU_KV_CACHE_GIB,
            gpu_memory_rate=_GPU_MEMORY_RATE,
            seed=job.llm.seed,
        )
        agreement = served_agreement(config, job.output)
    except UserError as error:
        return {"error": str(error)}
    return {"served_agreement": agreement.tokens, "served_equal_answers": agreement.answers}


def served_agreement(config: EngineConfig, folder: Path) -> Agreement:
    """Return how far an engine agrees with the golden answers of a model's folder.

    Raises:
        LanguageModelError: it chooses fewer than 95% of the tokens, or did not start.
    """
    with engine(config, device_id=device_id(config)) as llm:
        agreement = compare_served(llm, load(folder), adapter=config.adapter)
    form = f"base {config.model} with {config.adapter}" if config.adapter else config.model
    require(
        agreement, f"vLLM with {form}", "its weights or adapter are not served as they were trained: do not serve this version, train again"
    )
    return agreement


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks)
