"""The types of the settings. Their values, meanings and units stand in conf/base.yaml, the only place with defaults."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Split = Literal["train", "validation", "test", "score"]


_MASTER = r"local(\[(\*|\d+)(,\d+)?\])?|local-cluster\[\d+,\d+,\d+\]|spark://.+|k8s://.+|yarn"


def _matching(pattern: str, otherwise: str) -> AfterValidator:
    """Return a check of texts that says in words what is wrong with one that does not match a pattern as a whole."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is {otherwise}")
        return text

    return AfterValidator(check)


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def _place(text: str) -> str:
    """Return a path or URI whose meaning is plain, a URI as Hadoop writes it, for Delta compares texts; raise ValueError otherwise."""
    if not text:
        raise ValueError("empty: write a folder or a URI")
    if not _URI.match(text):
        return text
    scheme, _, rest = text.partition(":")
    if not rest.startswith("/"):
        raise ValueError(f"{text!r} is neither a path nor a URI: write scheme://HOST/PATH, or a path that begins with /")
    if re.match("//[^/@]*:[^/]*@", rest):
        raise ValueError(f"a password in a URI of {scheme} would be printed and kept with every run: give it to Spark's own settings")
    host, _, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest)
    if scheme == "file" and host not in ("", "localhost"):
        raise ValueError(f"{text!r} names the host {host}: write file:///PATH")
    names = [name for name in path.split("/") if name]
    return "/".join([f"{scheme}://{host}" if host and scheme != "file" else f"{scheme}:", *names])


Place = Annotated[str, AfterValidator(_place)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paths(Section):
    root: Place
    lake: Place
    raw_interactions: Place
    raw_catalog: Place
    models: Place
    indexes: Place
    reports: Place
    manifests: Place

    def locate(self, name: str, *parts: str) -> str:
        """Return where `name` (`lake`, `models`, ...) lies, joined with `parts`: absolute, or a URI."""
        below = str(getattr(self, name))
        whole = below if below.startswith("/") or _URI.match(below) else f"{self.root.rstrip('/')}/{below}"
        if not _URI.match(whole):
            whole = str(Path(whole).resolve())
        return "/".join([whole.rstrip("/"), *parts])


class Lake(Section):
    catalog: Annotated[str, _matching(r"([\w-]+(\.[\w-]+)?)?", "no CATALOGUE.SCHEMA, such as main.fashionrec, and no schema either")]


class Spark(Section):
    master: Annotated[str, _matching(_MASTER, "no master of Spark: local[2], spark://HOST:PORT, k8s://URL or yarn")]
    driver_memory: Annotated[str, _matching(r"\d+[kmgKMG]", "no size: a whole number and k, m or g, such as 1500m")]
    java_options: str
    shuffle_partitions: Positive


class Mlflow(Section):
    tracking_uri: str


def _asks_for_a_day(query: str) -> str:
    if query and ":date" not in query:
        raise ValueError("the query has no :date, the day whose rows it is to give")
    return query


Query = Annotated[str, AfterValidator(_asks_for_a_day)]


class Interactions(Section):
    query: Query
    time: Literal["iso", "epoch_seconds", "epoch_millis"]


class Catalog(Section):
    query: Query


class Ingest(Section):
    interactions: Interactions
    catalog: Catalog
    ready_marker: Annotated[str, _matching(r"[^/]*", "no name of a file: it lies in the day's folder itself")]
    lookback_days: NotNegative
    catalog_warning_days: NotNegative
    max_catalog_age_days: NotNegative
    max_quarantine_rate: Share
    near_duplicate_seconds: NotNegative
    max_text_length: Positive
    user_key_file: str


class Sequences(Section):
    session_gap_minutes: Positive
    history_days: Positive
    max_actions: Positive
    max_train_examples: Positive
    min_actions: Positive
    overnight_rate: Share
    test_days: Positive
    validation_days: Positive
    max_events_per_minute: Positive
    max_events_per_day: Positive
    max_purchases: Positive


class NgramEncoder(Section):
    kind: Literal["ngram"]
    min_similarity: Share


class ModelEncoder(Section):
    kind: Literal["clip", "sentence"]
    path: str
    revision: str
    device: Literal["cpu", "cuda"]
    batch_size: Positive
    min_similarity: Share


TextEncoder = NgramEncoder | ModelEncoder


class Memory(Section):
    half_life_days: Positive
    as_of_every_days: Positive
    # As many as the memory tells apart.
    min_support: Annotated[int, Field(gt=0, le=100)]
    top_products: Positive
    encoder: Annotated[TextEncoder, Field(discriminator="kind")]
    neighbours: Positive
    exact_search_up_to: Positive


class Prompts(Section):
    template: str
    calendar: str
    holiday_days: Positive
    max_tokens: Positive
    answer_tokens: Positive
    products_per_query: NotNegative
    attributes: bool
    memory: bool


class BaseLanguageModel(Section):
    path: str
    revision: str
    dtype: Literal["float32", "bfloat16", "float16"]
    lora_targets: Annotated[tuple[str, ...], Field(min_length=1)]
    live_adapter: bool


class Llm(Section):
    base: BaseLanguageModel
    lora_rank: Positive
    lora_alpha: Positive
    lora_dropout: Share
    learning_rate: PositiveFloat
    optimiser: Literal["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"]
    epochs: Positive
    hard_rate: Share
    hard_epochs: Positive
    hard_by: Literal["perplexity", "random"]
    max_steps: NotNegative
    batch_size: Positive
    device_batch_size: Positive
    gradient_checkpointing: bool
    checkpoint_steps: Positive
    canary_rate: Annotated[float, Field(ge=0, lt=1)]
    device: Literal["cpu", "cuda"]
    ranks: Positive
    sharding: Literal["ddp", "fsdp"]
    seed: int

    @model_validator(mode="after")
    def _fit_together(self) -> "Llm":
        if self.batch_size % (self.ranks * self.device_batch_size):
            raise ValueError(
                f"llm.batch_size={self.batch_size} must be a multiple of llm.ranks={self.ranks} times "
                f"llm.device_batch_size={self.device_batch_size}: every rank takes the same number of examples, some at once"
            )
        if self.sharding == "fsdp" and self.device == "cpu":
            raise ValueError(
                "llm.sharding=fsdp shares a model out among GPUs; with llm.device=cpu every rank keeps a whole one: choose ddp"
            )
        if self.optimiser.startswith("paged") and self.device == "cpu":
            raise ValueError(f"llm.optimiser={self.optimiser} pages a GPU's memory; with llm.device=cpu choose adamw_torch or adamw_8bit")
        return self


class Core(Section):
    encoder: Literal["trm", "ave"]
    epochs: Positive
    patience: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    temperature: PositiveFloat
    item_dropout: Share
    encoder_dropout: Share
    max_actions: Positive
    cold_rate: Share
    full_softmax_up_to: Positive
    sampled_items: Positive


class Title(Section):
    encoder: Literal["lstm"] | Annotated[TextEncoder, Field(discriminator="kind")]
    tokenizer: Literal["catalogue", "llm"]
    bidirectional: bool
    epochs: Positive
    patience: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    margin: PositiveFloat
    max_pairs: Positive
    noise_rate: Annotated[float, Field(ge=0, lt=1)]
    mine_every: NotNegative


class Embeddings(Section):
    dim: Positive
    device: Literal["cpu", "cuda"]
    core: Core
    title: Title
    seed: int


class Generation(Section):
    splits: tuple[Split, ...]
    max_new_tokens: Positive
    temperature: Annotated[float, Field(ge=0)]
    top_p: Share
    seed: int
    device: Literal["cpu", "cuda"]
    engines: Positive
    batch_size: Positive
    cpu_kv_cache_gib: Positive
    gpu_memory_rate: Share


class Retrieval(Section):
    candidates: Positive
    fusion: Literal["learnt", "mixup"]
    family: str
    attributes: tuple[str, ...]


class Release(Section):
    allow_newer: bool


class Recommend(Section):
    per_category: Positive
    bought_again: tuple[str, ...]


class Campaign(Section):
    max_items: Positive
    valid_days: Positive
    suppression: str


class Evaluate(Section):
    k: Positive
    verticals: dict[str, tuple[str, ...]]
    calendar_attributes: tuple[str, ...]


class Quality(Section):
    good_days: Positive
    min_rows_rate: Share
    max_rows_rate: PositiveFloat
    max_null_change: Share
    max_mean_change: PositiveFloat
    max_share_divergence: PositiveFloat


class Maintenance(Section):
    vacuum_hours: NotNegative
    keep_indexes_days: Positive
    run_lasts_days: NotNegative


class Settings(Section):
    paths: Paths
    lake: Lake
    spark: Spark
    mlflow: Mlflow
    ingest: Ingest
    sequences: Sequences
    memory: Memory
    prompts: Prompts
    llm: Llm
    embeddings: Embeddings
    generation: Generation
    retrieval: Retrieval
    release: Release
    recommend: Recommend
    campaign: Campaign
    evaluate: Evaluate
    quality: Quality
    maintenance: Maintenance

    def table(self, name: str) -> str:
        """Return how Spark addresses a table: by its name where there is a catalogue, else by its path, which alone holds a slash."""
        if self.lake.catalog:
            return ".".join(f"`{part}`" for part in (*self.lake.catalog.split("."), name))
        return self.paths.locate("lake", name)

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if self.prompts.answer_tokens >= self.prompts.max_tokens:
            raise ValueError("prompts.answer_tokens must be below prompts.max_tokens: nothing is left for the prompt")
        if self.generation.max_new_tokens > self.prompts.answer_tokens:
            raise ValueError("generation.max_new_tokens must not exceed prompts.answer_tokens: the answer would outgrow the budget")
        if self.retrieval.candidates < self.recommend.per_category:
            raise ValueError("retrieval.candidates must be at least recommend.per_category")
        return self
