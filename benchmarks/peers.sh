#!/bin/sh
# The peers that benchmarks compare with, in .venv-bench beside sternpost itself:
#     sh benchmarks/peers.sh && .venv-bench/bin/python -m benchmarks engine conformance
# --no-deps: repeng would pull numpy 1, lm-eval a hundred packages that nothing here uses.
set -e
PYTHON=${PYTHON:-python3}
"$PYTHON" -m venv .venv-bench
.venv-bench/bin/pip install -q "${TORCH:-torch==2.13.0}"
.venv-bench/bin/pip install -q -c constraints.txt -e .
.venv-bench/bin/pip install -q sae-lens==6.54.12 'transformer-lens<4'
.venv-bench/bin/pip install -q --no-deps steering-vectors==0.12.2 repeng==0.4.0 gguf nnsight==0.8.1 \
    lm-eval==0.4.13 eai-sparsify==1.3.3 natsort schedulefree dictionary-learning==0.1.0 einops
.venv-bench/bin/pip install -q greenlet cloudpickle astor zstandard websocket-client httpx requests \
    tenacity
