"""The page on the fine-tuning: what it says, what it must not hide, and what of shoppers may not stand on it."""

import math
import re
from datetime import date
from pathlib import Path

import pytest

from fashionrec.reports.language_model import write_language_model
from fashionrec.reports.trained import Trained
from tests.unit.test_report import EVIL, Tags

METRICS = {
    "loss_before": 2.5,
    "loss_after": math.log(4),
    "modules_4bit": 16,
    "trainable_parameters": 180_224,
    "steps": 4,
    "train_tokens": 12_345,
    "tokens_per_second": 4429.5,
    "peak_gib": 1.25,
    "golden_tokens": 187.0,
    "merge_agreement": 1.0,
    "merge_equal_answers": 1.0,
    "served_agreement": 0.9876,
    "served_equal_answers": 0.875,
}
PERPLEXITY = {"edges": [1.0, 10.0, 100.0, 1000.0], "counts": [50, 30, 20], "hard_counts": [0, 0, 20], "median": 12.34}
PARAMS = {
    "lora_rank": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "learning_rate": 2e-5,
    "optimiser": "paged_adamw_8bit",
    "epochs": 1,
    "hard_rate": 0.2,
    "hard_epochs": 3,
    "hard_by": "perplexity",
    "max_steps": 0,
    "batch_size": 8,
    "device": "cpu",
    "ranks": 1,
    "sharding": "ddp",
}


def training(*, params=None, metrics=None, **card):
    base = {"path": "/somewhere/conf/models/tiny", "revision": "", "dtype": "float32", "lora_targets": ["dense", "query_key_value"]}
    given = {
        "base": base,
        "inputs": {"prompts": 41},
        "metrics": METRICS | (metrics or {}),
        "history": [{"step": step, "loss": 2.0 / step, "tokens": 100 * step} for step in (1, 2, 3, 4)],
        "perplexity": PERPLEXITY,
        **card,
    }
    return Trained("llm", "7", Path("llm"), "0123abc", PARAMS | (params or {}), given, 141.0)


def memorised(exposures, *, reproduced=(), alternatives=255, each=6):
    """Return a report in which `each` canaries of a number of copies have its exposure; those of the copies named came back whole."""
    of = {copies: {"exposure_before": 1.25, "exposure": value, "reproduced": copies in reproduced} for copies, value in exposures.items()}
    canaries = [{"query": EVIL, "response": EVIL, "copies": copies, **row} for copies, row in of.items() for _ in range(each)]
    by_copies = [{"copies": copies, "canaries": each, **row, "reproduced": each * row["reproduced"]} for copies, row in sorted(of.items())]
    return {"alternatives": alternatives, "canaries": canaries, "by_copies": by_copies}


def page(folder, trained=None, *, synthetic=False, warnings=()):
    return write_language_model(
        folder, run_date=date(2026, 3, 1), synthetic=synthetic, trained=trained or training(), warnings=warnings
    ).read_text(encoding="utf-8")


def test_the_page_says_what_was_learnt_served_and_registered(tmp_path):
    found = page(tmp_path)
    assert "<b>1.386</b><span>loss of held-out prompts after training; 2.500 before</span>" in found
    assert "<b>25.0%</b>" in found, "four tokens that are equally likely, by the loss"
    assert "<b>4</b><span>steps of training, which read 12,345 tokens</span>" in found
    assert '<td>As vLLM serves it</td><td class="number">98.8%</td><td class="number">87.5%</td>' in found
    assert "with 187 tokens in all" in found
    for words in (
        "180,224 weights",
        "16 layers held in 4 bit",
        "paged_adamw_8bit",
        "learning rate 2e-05",
        "141 s",
        "4,430 tokens a second",
    ):
        assert words in found
    for words in ("1.2 GiB", "version 7", "0123abc", "prompts, version 41", "LoRA of rank 16, alpha 32", "1; 3 for the 20% of the highest"):
        assert words in found


def test_a_base_is_named_by_its_revision_and_never_by_its_place_on_the_machine(tmp_path):
    assert "<dd>tiny, 16 layers" in page(tmp_path)
    hub = {"path": "some/base", "revision": "abc123", "dtype": "bfloat16", "lora_targets": ["dense"]}
    assert "some/base, revision abc123, 16 layers" in page(tmp_path, training(base=hub))
    assert "some/base, revision not pinned, 16 layers" in page(tmp_path, training(base=hub | {"revision": ""}))


def test_a_model_that_is_not_merged_has_no_line_of_a_merge(tmp_path):
    assert "Merged with its base" in page(tmp_path)
    metrics = {name: value for name, value in METRICS.items() if not name.startswith("merge")}
    assert "Merged with its base" not in page(tmp_path, training()._replace(card={**training().card, "metrics": metrics}))


def test_the_hard_prompts_are_counted_and_a_random_control_is_called_one(tmp_path):
    found = page(tmp_path)
    assert "hard: 20 to be read 3 times" in found
    assert "Half of the 100 prompts lie below 12.3 (dashed). The coloured 20% surprised it most." in found
    assert "random control" not in found
    drawn = page(tmp_path, training(params={"hard_by": "random", "hard_epochs": 2}))
    assert "random control: 20 to be read twice" in drawn
    assert "surprised it most" not in drawn
    assert "2 for the 20% drawn at random" in drawn


def test_where_no_perplexity_was_measured_nothing_is_said_of_it(tmp_path):
    found = page(tmp_path, training(perplexity=None, params={"hard_rate": 0.0}))
    assert found.count("<svg") == 1
    assert not re.search("perplexity|hard", found, re.IGNORECASE)


@pytest.mark.parametrize(("max_steps", "ended"), [(4, True), (5, False), (0, False)])
def test_a_limit_on_the_steps_that_ended_training_is_said(tmp_path, max_steps, ended):
    assert ("Training ended at step 4, for llm.max_steps" in page(tmp_path, training(params={"max_steps": max_steps}))) == ended


def test_many_steps_are_drawn_as_means_of_stretches_of_them(tmp_path):
    def history(count):
        return [{"step": step, "loss": float(step % 2), "tokens": step} for step in range(1, count + 1)]

    long = page(tmp_path, training(history=history(20_000), metrics={"steps": 20_000}))
    assert "Each point of the line is the mean of 134 steps." in long
    assert len(long) < len(page(tmp_path, training(history=history(150), metrics={"steps": 150}))) + 5000
    assert "Each point of the line" not in page(tmp_path, training(history=history(150)))


def test_what_the_run_warned_of_stands_on_the_page(tmp_path):
    assert '<div class="card loud">no x &lt;b&gt;</div>' in page(tmp_path, warnings=["no x <b>"])


def test_without_canaries_the_page_says_that_nothing_was_measured(tmp_path):
    found = page(tmp_path)
    assert "Not measured: llm.canary_rate is 0." in found
    assert "bits" not in found


def test_exposure_of_chance_is_called_chance(tmp_path):
    report = memorised({0: 1.4, 1: 1.9, 4: 2.0})
    found = page(tmp_path, training(memorisation=report, metrics={"canaries": 12, "canaries_reproduced": 0}))
    assert "255 others drawn alike: 8 bits are the most that so many others can show, about 1.4 come by chance" in found
    assert "<b>0 of 12</b>" in found
    assert "What stands in a single row of training is not seen in the weights:</b> 1.90 bits" in found
    assert ">kept<" not in found
    assert "are kept" not in found


def test_what_a_single_row_left_in_the_weights_is_said_loudly_with_what_to_do(tmp_path):
    report = memorised({0: 1.4, 1: 3.5, 8: 7.75}, reproduced=[8])
    found = page(tmp_path, training(memorisation=report, metrics={"canaries": 12, "canaries_reproduced": 6}))
    assert "<b>The weights keep what stands in a single row of training.</b> Exposure rose to 3.50 bits. Train with fewer epochs" in found
    assert found.count(">kept<") == 2
    assert (
        '<tr><td>8 <span class="badge">kept</span></td><td class="number">6</td><td class="number">1.25</td><td class="number">7.75</td>'
        '<td class="number muted">2.55</td><td class="number">6</td>'
    ) in found


def test_a_canary_given_word_for_word_is_kept_whatever_its_exposure(tmp_path):
    found = page(tmp_path, training(memorisation=memorised({0: 1.4, 1: 1.4}, reproduced=[1])))
    assert "The weights keep what stands in a single row of training." in found
    assert "and 6 of 6 came back word for word" in found


def test_canaries_kept_of_several_rows_only_are_named(tmp_path):
    found = page(tmp_path, training(memorisation=memorised({0: 1.4, 1: 1.4, 2: 1.4, 4: 5.0, 8: 7.0})))
    assert "What stands in a single row of training is not seen in the weights:" in found
    assert "Canaries of 4, 8 rows are kept" in found


def test_a_control_that_chance_lifts_is_not_called_kept(tmp_path):
    assert ">kept<" not in page(tmp_path, training(memorisation=memorised({0: 6.0, 1: 1.4})))


def test_only_the_most_exposed_canaries_are_shown_one_by_one(tmp_path):
    found = page(tmp_path, training(memorisation=memorised({0: 1.4, 1: 2.0, 2: 3.25}, each=15)))
    assert "The 20 of the highest exposure; 10 more" in found
    shown = re.findall(r'<td class="number">(\d)</td><td class="number">(\d\.\d\d)</td><td class="number">no</td>', found)
    assert shown == [("2", "3.25")] * 15 + [("1", "2.00")] * 5


def test_text_of_canaries_cannot_become_part_of_the_page_and_nothing_is_loaded(tmp_path):
    found = page(tmp_path, training(memorisation=memorised({0: 1.4, 1: 2.0})))
    tags = Tags(found)
    assert "script" not in tags.seen
    assert not tags.open, "every tag is closed"
    assert found.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; [bold]$x^") == 12
    assert not re.search(r"https?:|//\w|@import", found)


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_is_named_as_such_and_only_then(tmp_path, synthetic):
    assert ("synthetic" in page(tmp_path, synthetic=synthetic)) == synthetic


def test_the_same_training_gives_the_same_bytes(tmp_path):
    assert page(tmp_path) == page(tmp_path)
