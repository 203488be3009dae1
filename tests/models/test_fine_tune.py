"""Fine-tuning as a whole: how often examples are read, many ranks, kills, full disks and losses that rise away."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionrec.llm import launch
from fashionrec.llm.base import LanguageModelError, load_base, load_tokenizer
from fashionrec.llm.checkpoints import newest_whole
from fashionrec.llm.examples import read_examples
from fashionrec.llm.fine_tune import fine_tune
from fashionrec.llm.job import TrainingJob
from fashionrec.llm.perplexity import surprise
from fashionrec.llm.train import train_rank
from fashionrec.settings import load_settings
from tests.conftest import ROOT
from tests.models.conftest import train_and_be_killed

# Responses of different lengths, whose tokens all weigh the same: parts of a step, or ranks, that weighed the same would differ.
ROWS = [
    {"prompt": f"clicked a red dress {i}{' again' * (i % 5)}: ", "response": f"I{i % 7} | blue shoe{' for a red dress' * (i % 4)}"}
    for i in range(40)
]
# Without dropout two ways through the same examples can be compared.
CHANGES = {"learning_rate": 0.01, "lora_dropout": 0.0, "checkpoint_steps": 4, "hard_rate": 0.2, "batch_size": 8, "device_batch_size": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def tokenizer(tiny_falcon):
    return load_tokenizer(tiny_falcon.path)


@pytest.fixture(scope="module")
def examples(folder, tokenizer):
    return read_examples(folder, tokenizer, max_tokens=128)


@pytest.fixture(scope="module")
def settings(tiny_falcon):
    def make(**changes):
        return load_settings().llm.model_copy(update={"base": tiny_falcon, **CHANGES, **changes})

    return make


@pytest.fixture(scope="module")
def train(tokenizer, examples, settings):
    def run(work, **changes):
        return fine_tune(settings(**changes), tokenizer, examples, examples[:8], work=work, adapter=work / "adapter")

    return run


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("undisturbed"))


def losses(card):
    return [row["loss"] for row in card["history"]]


def test_the_perplexity_of_a_response_is_that_of_its_tokens_alone(examples, tokenizer, tiny_falcon):
    import torch

    model = load_base(tiny_falcon).eval()
    found = surprise(model, examples, pad_id=tokenizer.pad_token_id, batch_size=7)
    for place in (0, 17, 39):
        ids, start = torch.from_numpy(examples[place]["input_ids"]).long(), examples[place]["prompt_length"]
        with torch.inference_mode():
            logs = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1], -1)
        by_hand = -logs[torch.arange(len(ids) - 1), ids[1:]][start - 1 :].mean()
        assert found.perplexity[place] == pytest.approx(float(by_hand.exp()), rel=1e-4)
        assert found.tokens[place] == len(ids) - start


def test_a_fifth_of_the_prompts_is_read_three_times_and_the_loss_falls(undisturbed):
    metrics = undisturbed["metrics"]
    assert metrics["steps"] == (0.8 * 40 + 0.2 * 40 * 3) / 8
    assert metrics["loss_after"] < 0.9 * metrics["loss_before"]
    assert metrics["train_tokens"] > 0
    assert metrics["peak_gib"] > 0.1
    assert [row["step"] for row in undisturbed["history"]] == [1, 2, 3, 4, 5, 6, 7]


def test_the_hard_ones_are_those_that_the_base_finds_most_surprising(undisturbed):
    picture = undisturbed["perplexity"]
    counts, hard = np.array(picture["counts"]), np.array(picture["hard_counts"])
    assert (counts.sum(), hard.sum()) == (40, 8)
    easiest_hard = np.flatnonzero(hard).min()
    assert counts[easiest_hard + 1 :].sum() == hard[easiest_hard + 1 :].sum()


def test_the_control_reads_a_random_fifth_three_times(train, undisturbed, tmp_path):
    control = train(tmp_path, hard_by="random")
    assert control["metrics"]["steps"] == undisturbed["metrics"]["steps"]
    assert sum(control["perplexity"]["hard_counts"]) == 8
    assert control["perplexity"]["hard_counts"] != undisturbed["perplexity"]["hard_counts"]


def test_without_hard_ones_nothing_is_measured_and_each_is_read_once(train, tmp_path):
    card = train(tmp_path, hard_rate=0)
    assert card["perplexity"] is None
    assert card["metrics"]["steps"] == 5


def test_a_step_in_parts_is_a_step_at_once(train, undisturbed, tmp_path):
    assert losses(train(tmp_path, device_batch_size=2)) == pytest.approx(losses(undisturbed), rel=1e-4)


@pytest.mark.parametrize("optimiser", ["adamw_8bit"])
def test_other_optimisers_learn_too(train, tmp_path, optimiser):
    metrics = train(tmp_path, optimiser=optimiser)["metrics"]
    assert metrics["loss_after"] < 0.9 * metrics["loss_before"]


def test_activations_computed_again_give_the_same_losses(train, undisturbed, tmp_path):
    assert losses(train(tmp_path, gradient_checkpointing=True)) == pytest.approx(losses(undisturbed), rel=1e-4)


@pytest.fixture
def two_ranks(folder, settings, tmp_path):
    """Return a job for two ranks, half a batch each."""
    held_out = tmp_path / "held_out"
    held_out.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS[:8]), held_out / "rows.parquet")
    llm = settings(ranks=2, device_batch_size=4)
    return TrainingJob(llm=llm, max_tokens=128, train=folder, held_out=held_out, work=tmp_path / "work", output=tmp_path / "out")


def test_two_ranks_take_the_steps_of_one(spark, two_ranks, undisturbed):
    card = launch._run(spark, train_rank, two_ranks, ranks=2)
    assert losses(card) == pytest.approx(losses(undisturbed), rel=1e-3)
    assert card["metrics"]["loss_after"] == pytest.approx(undisturbed["metrics"]["loss_after"], rel=1e-3)


def test_two_tasks_of_a_cluster_take_the_steps_of_one(two_ranks, undisturbed, tmp_path):
    command = [sys.executable, "-m", "tests.models.cluster_process", two_ranks.llm.model_dump_json(), str(two_ranks.train), str(tmp_path)]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    card = json.loads(ran.stdout.splitlines()[-1])
    assert losses(card) == pytest.approx(losses(undisturbed), rel=1e-3)
    assert card["metrics"]["served_agreement"] >= 0.95
    assert card["spark_jobs"] >= 2


def test_a_model_shared_out_among_ranks_has_the_loss_and_gradients_of_a_whole_one(tiny_falcon, tmp_path):
    import torch
    from safetensors.torch import load_file

    from tests.models.sharded_process import IDS, gradient_norms, new_model

    command = ["torchrun", "--nproc_per_node=2", "-m", "tests.models.sharded_process", tiny_falcon.model_dump_json(), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [f"{sys.prefix}/bin/{command[0]}", *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    shared = json.loads(ran.stdout.splitlines()[-1])
    whole = new_model(tiny_falcon)
    loss = whole(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert shared["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert shared["gradients"] == pytest.approx(gradient_norms(whole), rel=1e-4)
    assert shared["bytes"] < 0.55 * sum(weights.nbytes for weights in whole.parameters())
    # accelerate leaves weights of other types whole on every rank.
    assert all(weights.is_floating_point() for weights in whole.parameters())
    saved = load_file(tmp_path / "adapter_model.safetensors")
    wanted = {name.replace(".default", ""): weights for name, weights in whole.named_parameters() if "lora_" in name}
    assert saved.keys() == wanted.keys()
    assert all(torch.equal(saved[name], weights) for name, weights in wanted.items())


def test_killed_and_run_again_it_takes_the_steps_of_an_undisturbed_run(folder, settings, train, tmp_path, capfd):
    expected = losses(train(tmp_path / "undisturbed", lora_dropout=0.1))
    job = {"llm": settings(lora_dropout=0.1).model_dump(mode="json"), "examples": str(folder), "work": str(tmp_path / "killed")}
    train_and_be_killed("fine_tuning", job, after=6)
    capfd.readouterr()
    found = losses(train(tmp_path / "killed", lora_dropout=0.1))
    assert "going on from checkpoint-4 " in capfd.readouterr().out
    assert found == expected


def test_a_full_disk_keeps_the_checkpoint_before(train, tmp_path, monkeypatch):
    class Full:
        """Lets the process write small files only, as from the second checkpoint on."""

        def __enter__(self):
            self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, self.limits[1]))

        def __exit__(self, *_):
            resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)

    from fashionrec.llm.watch import SavingTrainer

    whole = SavingTrainer.__mro__[1]._save_checkpoint

    def full_at_the_second(self, model, trial):
        if self.state.global_step == 4:
            return whole(self, model, trial)
        with Full():
            return whole(self, model, trial)

    with monkeypatch.context() as patch:
        patch.setattr(SavingTrainer.__mro__[1], "_save_checkpoint", full_at_the_second)
        with pytest.raises(
            LanguageModelError, match=r"checkpoint of step 7 could not be written .*checkpoint-4 is whole: make room and run"
        ):
            train(tmp_path)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert newest_whole(folder).name == "checkpoint-4"
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-4"]
    assert len(losses(train(tmp_path))) == 7


def test_a_checkpoint_that_was_not_finished_is_passed_over(train, undisturbed, tmp_path, capfd):
    train(tmp_path)
    (folder,) = [path for path in tmp_path.iterdir() if path.name != "adapter"]
    (folder / "checkpoint-7" / "whole").unlink()
    capfd.readouterr()
    again = train(tmp_path)
    assert "going on from checkpoint-4 " in capfd.readouterr().out
    assert losses(again) == pytest.approx(losses(undisturbed), rel=1e-5)


def test_other_examples_or_settings_are_another_training(train, undisturbed, tmp_path, capfd):
    train(tmp_path)
    train(tmp_path, lora_rank=8)
    assert "going on" not in capfd.readouterr().out


def test_a_loss_that_rises_away_stops_the_training(tmp_path):
    # Random weights know nothing that they could forget: this base can copy.
    llm = load_settings(overrides=["llm.learning_rate=3", "llm.hard_epochs=5", "llm.hard_rate=1"]).llm
    tokenizer = load_tokenizer(llm.base.path)
    rows = [
        {"prompt": f"searched: blue shoe\n1. {n} | Blue Shoe\nAnswer:\n", "response": f"{n} | Blue Shoe"} for n in range(477000, 477040)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    examples = read_examples(tmp_path / "rows.parquet", tokenizer, max_tokens=128)
    with pytest.raises(
        LanguageModelError, match=r"the loss of the last 10 steps is [\d.]+ on average, above 1.5 times that before training"
    ):
        fine_tune(llm, tokenizer, examples, examples[:8], work=tmp_path, adapter=tmp_path / "adapter")


def test_settings_that_cannot_work_together_are_refused():
    from fashionrec.settings import SettingsError

    with pytest.raises(SettingsError, match=r"llm.batch_size=8 must be a multiple of llm.ranks=3 times llm.device_batch_size=2"):
        load_settings(overrides=["llm.ranks=3", "llm.device_batch_size=2"])
    with pytest.raises(SettingsError, match=r"llm.sharding=fsdp shares a model out among GPUs"):
        load_settings(overrides=["llm.sharding=fsdp"])
    with pytest.raises(SettingsError, match=r"llm.optimiser=paged_adamw_8bit pages a GPU's memory"):
        load_settings(overrides=["llm.optimiser=paged_adamw_8bit"])
