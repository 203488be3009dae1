#!/usr/bin/env bash
# Resolve again and write the hashed requirement files of every environment (make lock). No registry's host is written into them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="$PWD/.venv/bin/uv"
export_to() { "$uv" export -q --locked --python .venv/bin/python --no-emit-project --format requirements.txt --no-header --no-annotate --extra train "${@:2}" -o "requirements/$1.txt"; }
"$uv" lock --python .venv/bin/python
export_to cpu --extra cpu --no-dev
export_to cuda --extra cuda --no-dev
export_to dev --extra cpu --group dev
"$uv" pip compile -q --python .venv/bin/python --generate-hashes --no-header --no-annotate --universal requirements/airflow.in -o requirements/airflow.txt
grep -E '^uv==' -A 40 requirements/dev.txt | awk 'NR>1 && /^[a-z]/ {exit} {print}' > requirements/uv.txt
