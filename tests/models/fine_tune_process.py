"""A fine-tuning in a process of its own, for the test that kills it: python -m tests.models.fine_tune_process JOB."""

import json
import os
import sys
import time
from pathlib import Path

from fashionrec.llm.base import load_tokenizer
from fashionrec.llm.examples import read_examples
from fashionrec.llm.fine_tune import fine_tune
from fashionrec.llm.watch import Watch
from fashionrec.settings.model import Llm


def main(job: dict) -> None:
    llm = Llm.model_validate(job["llm"])
    tokenizer = load_tokenizer(llm.base.path)
    examples = read_examples(Path(job["examples"]), tokenizer, max_tokens=128)
    stop = int(os.environ.get("STOP_AFTER_STEP", "0"))
    if stop:
        look = Watch.on_log

        def wait(self, args, state, control, **kwargs):
            look(self, args, state, control, **kwargs)
            if state.global_step == stop:
                print("waiting to be killed", flush=True)  # noqa: T201
                time.sleep(300)

        Watch.on_log = wait
    work = Path(job["work"])
    card = fine_tune(llm, tokenizer, examples, examples[:8], work=work, adapter=work / "adapter")
    print(json.dumps(card))  # noqa: T201


main(json.loads(sys.argv[1]))
