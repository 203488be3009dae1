"""How good the mailed list is beside every other row: the demo's synthetic shop and H&M's real purchases, as `make bench-quality`.

Reads the evaluations of `make demo` and `make hm` where they were run (data/demo, data/hm), else runs them: about half an hour. The last
line is JSON: by data set and question, recall@10 and ndcg@10 of the mailed list, of the best other row, of the paper's mixup and of the
list without the language model, each with the lower end of the 95% interval of what the mailed list gains over it.
"""

import argparse
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from fashionrec.errors import UserError
from fashionrec.pipeline.workspace import open_workspace
from fashionrec.retrieval.fusion import FUSION, MIXUP, SERVED, WITHOUT_LLM
from fashionrec.settings import load_settings, resource

_SHOPS = {"demo": ("conf/demo.yaml", date(2026, 3, 1)), "hm": ("conf/hm.yaml", date(2020, 9, 22))}
_QUESTIONS = (("leave_one_out", "overnight"), ("leave_one_out", "in_session"), ("another_day", "in_session"))
_METRICS = ("recall@10", "ndcg@10")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scale", type=float, default=1.0, help="not used: both data sets are what they are")
    options.parse_args()
    measured = {name: _measure(name) for name in _SHOPS}
    for name, questions in measured.items():
        for question, rows in questions.items():
            print(f"{name}, {question}: {rows['examples']} purchases")
            for row in ("mailed", "best_other", "mixup", "without_llm"):
                one = rows[row]
                shown = ", ".join(f"{metric} {one[metric]:.4f}" for metric in _METRICS)
                gains = ", ".join(f"{metric} {one[f'{metric}_gain_low']:+.4f}" for metric in _METRICS if row != "mailed")
                print(f"  {row:12} {one['method']:16} {shown}{f'   gain at least {gains}' if gains else ''}")
    print(json.dumps(measured))


def _measure(name: str) -> dict[str, Any]:
    conf, day = _SHOPS[name]
    workspace = open_workspace(load_settings(resource("conf") / Path(conf).name, []), day)
    try:
        rows = [row.asDict() for row in workspace.read("evaluations").collect()]
    except UserError:
        _run(name, conf, day)
        rows = [row.asDict() for row in workspace.read("evaluations").collect()]
    found: dict[str, Any] = {}
    for protocol, horizon in _QUESTIONS:
        asked = [row for row in rows if (row["category"], row["protocol"], row["horizon"]) == ("all", protocol, horizon)]
        if not asked:
            continue
        by_method: dict[str, dict[str, Any]] = {}
        for row in asked:
            one = by_method.setdefault(row["method"], {"method": row["method"]})
            one[row["metric"]] = round(row["value"], 4)
            if row["gain_low"] is not None:
                one[f"{row['metric']}_gain_low"] = round(row["gain_low"], 4)
        others = [one for method, one in by_method.items() if method not in (SERVED, FUSION, WITHOUT_LLM)]
        found[f"{protocol}, {horizon}"] = {
            "examples": asked[0]["example_count"],
            "mailed": by_method[SERVED],
            # The one that comes nearest, by what the mailed list surely gains over it.
            "best_other": min(others, key=lambda one: one["ndcg@10_gain_low"]),
            "mixup": by_method[MIXUP],
            "without_llm": by_method[WITHOUT_LLM],
        }
    return found


def _run(name: str, conf: str, day: date) -> None:
    command = [str(Path(sys.executable).with_name("fashionrec"))]
    if name == "demo":
        subprocess.run([*command, "demo"], check=True)
        return
    source = Path(os.environ.get("FASHIONREC_DATA", "../shared/data")) / "hm"
    subprocess.run([*command, "import", "hm", str(source), "--conf", conf], check=True)
    subprocess.run([*command, "run", "--conf", conf, "--run-date", str(day)], check=True)


if __name__ == "__main__":
    main()
