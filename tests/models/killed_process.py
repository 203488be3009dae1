"""A training that is killed in the middle: python -m tests.models.killed_process fine_tuning|embeddings JOB STEP_OR_EPOCH."""

import json
import os
import signal
import sys
from pathlib import Path


def fine_tuning(job: dict, last_step: int) -> None:
    """Be killed after an optimiser step."""
    from fashionrec.llm.base import load_tokenizer
    from fashionrec.llm.examples import read_examples
    from fashionrec.llm.fine_tune import fine_tune
    from fashionrec.llm.watch import Watch
    from fashionrec.settings.model import Llm

    look = Watch.on_log

    def look_and_die(self, args, state, control, **kwargs):
        look(self, args, state, control, **kwargs)
        if state.global_step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    Watch.on_log = look_and_die
    llm = Llm.model_validate(job["llm"])
    tokenizer = load_tokenizer(llm.base.path)
    examples = read_examples(Path(job["examples"]), tokenizer, max_tokens=128)
    work = Path(job["work"])
    fine_tune(llm, tokenizer, examples, examples[:8], work=work, adapter=work / "adapter")


def embeddings(job: dict, last_epoch: int) -> None:
    """Be killed within the epoch after the last one: some of its batches are learnt already."""
    from fashionrec.embeddings.epochs import Progress
    from fashionrec.embeddings.train import main

    add = Progress.add

    def add_and_die(self, loss, examples):
        if self._epoch == last_epoch and self._done:
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, loss, examples)

    Progress.add = add_and_die
    main(job)


{"fine_tuning": fine_tuning, "embeddings": embeddings}[sys.argv[1]](json.loads(sys.argv[2]), int(sys.argv[3]))
