# `make demo` and `make test` need Linux with Python 3.11 or later, git and make; they set up the rest.

PYTHON ?= python3
ENV := .venv
READY := $(ENV)/ready
PAGE := $(ENV)/plots_page.html

# The stages call `python`, dvc among them: the environment's come first.
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)

# DVC's experiments are Git commits: where Git knows no author, one is lent to what runs from here.
ifeq ($(shell git config user.email),)
export XDG_CONFIG_HOME := $(CURDIR)/$(ENV)/config
endif

.PHONY: demo env test faults slurm reproduce bench lint

## demo: two optimizers on the embedded digits, compared; then a small study with its report
DEMO := dvc exp run --quiet --temp -S protocol=demo
demo: env
	@dvc exp remove --quiet demo-sgd demo-adam 2>/dev/null || true
	$(DEMO) --name demo-sgd -S optim=sgd
	$(DEMO) --name demo-adam -S optim=adam
	python -m lab.report.compare demo-sgd demo-adam --out plots/demo/accuracy_vs_budget.png
	@echo "Page, opens without internet:"
	@dvc plots diff demo-sgd demo-adam --out plots/demo
	python -m lab.study run studies/digits/study.yaml
	python -m lab.study report studies/digits/study.yaml
	@echo "Digits: they show how the laboratory works, not which optimizer is better on CIFAR-10."

## env: the environment, and a page for `dvc plots` that opens without internet
env: $(READY)

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: name another, as in make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(ENV)
	@echo "Installing about 6 GB, PyTorch for the most part: a few minutes"
	python -m pip install --quiet --requirement requirements.txt
	python -m lab.report.plots_page $(PAGE)
	dvc config --local plots.html_template ../$(PAGE)
	mkdir -p $(ENV)/config/git
	printf '[user]\n\tname = Active-learning laboratory\n\temail = laboratory@example.org\n' > $(ENV)/config/git/config
	touch $(READY)

## test: every test, the pipeline end to end included
test: env
	python -m pytest

## faults: processes killed, disks filled, files corrupted; some cases need root
faults: env
	python -m pytest -m faults

## slurm: studies on a SLURM of two nodes, killed and cancelled; needs root and Debian's SLURM packages
slurm: env
	python -m pytest -m slurm

## reproduce: one small run in two clones with a cache each, every result compared by hash
reproduce: env
	python -m pytest tests/test_reproduce.py

## bench: speed and accuracy against the usual loop, on CIFAR-10; half an hour on two cores
bench: env
	python -m bench.speed
	python -m bench.parity

## lint: style and formatting
lint: env
	ruff check .
	ruff format --check .
