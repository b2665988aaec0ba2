# Two commands for readers: make book, make test. The others are for authors; CONTRIBUTING.md explains them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# One thread a process: two processes with two threads each would wait for one another most of the time.
TEST := OMP_NUM_THREADS=1 REGBOOK_PROCESSES=1 REGBOOK_PROGRESS=0 MPLBACKEND=agg IPYTHONDIR=$(CURDIR)/$(VENV)/ipython
HTML := $(CURDIR)/_build/html/index.html

.PHONY: book test lab execute portable benchmarks clean

book: $(READY)
	$(BIN)/jupyter-book build . -W -n --keep-going --all
	@echo "Open file://$(HTML)"

test: book
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(TEST) $(BIN)/python -m pytest -n 2 tests
	$(TEST) $(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-cell-timeout=300 chapters

lab: $(READY)
	$(BIN)/jupyter lab

execute: $(READY)
	$(BIN)/python -m regbook execute

portable: $(READY)
	$(BIN)/python -m regbook portable

benchmarks: $(READY)
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/federated.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): two or three minutes, 6 GB with torch's GPU libraries ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[book,test]'
	@mkdir -p $(VENV)/ipython/profile_default
	@echo "c.IPKernelApp.log_level = 'ERROR'" > $(VENV)/ipython/profile_default/ipython_kernel_config.py
	@touch $@

clean:
	rm -rf _build
