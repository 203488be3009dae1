"""Seconds and peak memory of every step on the synthetic shop: make bench-pipeline [SCALE=0.1]. The last line is JSON."""

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console

from fashionrec.commands import demo
from fashionrec.settings import load_settings, resource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the demo's number of users")
    users = max(20, int(demo.USERS * parser.parse_args().scale))
    with tempfile.TemporaryDirectory() as root:
        settings = load_settings(resource("conf") / "demo.yaml", [f"paths.root={root}"])
        demo.run(settings, demo.RUN_DATE, Console(), users=users)
        (manifest,) = Path(root, "manifests", str(demo.RUN_DATE)).glob("*.json")
        steps = json.loads(manifest.read_text())["steps"]
    figures = {
        "users": users,
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "peak_gib": max(step["peak_gib"] for step in steps),
        "seconds_by_step": {step["step"]: step["seconds"] for step in steps},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
