# Two commands: `make demo` (text in, evaluated encoder out) and `make test`. Both make .venv and install first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
READY := $(VENV)/installed

.PHONY: demo test test-gpu test-long test-cluster check install clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/bertmill run tiny

# A GPU is left alone, where there is one: bit for bit equal to another machine is a claim of a CPU.
test: $(READY)
	CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

# On one NVIDIA GPU: that it computes what a CPU does, and trains, is killed and goes on. Some minutes.
test-gpu: $(READY)
	$(BIN)/python -m pytest tests/pretraining/gpu tests/pretraining/test_guard.py

# The races and kills of which `make test` does a sample, in full. An hour or so.
test-long: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --long -m long

# Against real servers from Debian packages, which it installs where they are missing: that takes root.
test-cluster: $(READY) $(VENV)/ministack/installed
	tests/cluster/install
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder tests/cluster

$(VENV)/ministack/installed: tests/cluster/ministack.txt
	$(PYTHON) -m venv $(VENV)/ministack
	$(VENV)/ministack/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

check: $(READY)
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

install: $(READY)

clean:
	rm -rf $(VENV)

$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit("bertmill needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Give another: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'from importlib.metadata import version; version("torch")' 2>/dev/null || $(MAKE) --no-print-directory torch
	@# The torch that is there is kept, whatever its version, and the triton that came with it: only the other pins bind.
	@$(BIN)/python -m pip list --format=freeze --disable-pip-version-check | grep -E '^(torch|triton)==' > $(VENV)/kept
	@sed 's/^/^/; s/==.*/==/' $(VENV)/kept | grep -v -f - constraints.txt | cat - $(VENV)/kept > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev]'
	@touch $@

# PyPI's torch for Linux carries several GB of CUDA. Without a GPU the CPU build is wanted: from where pip already looks,
# else from PyTorch's own index, which uv knows.
.PHONY: torch
torch:
ifneq ($(shell command -v nvidia-smi),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==$(TORCH)+cpu' 2>/dev/null \
	|| { $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv \
	     && $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu torch==$(TORCH); }
endif
