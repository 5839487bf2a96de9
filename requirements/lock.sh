#!/usr/bin/env bash
# Locks each extra of pyproject.toml with hashes, for every supported Python, naming no registry.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
for extra in operator forwarder device azure-sim dev; do
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" \
        --extra "$extra" --output-file "requirements/$extra.txt" pyproject.toml
done
