# Linux with Python 3.11 or later, git and make. Each target sets up what it needs in .venv.

PYTHON ?= python3
# Tests at once. Each takes about one core and 2 GB.
WORKERS ?= 2
ENV := .venv
READY := $(ENV)/ready
READY_DEV := $(ENV)/ready-dev
PAGE := $(ENV)/plots_page.html
PYTEST := python -m pytest --numprocesses $(WORKERS) --dist loadfile --durations 20

# The stages call `python`, dvc among them: the environment's come first.
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)

# DVC's experiments are Git commits: where Git knows no author, one is lent to what runs from here.
ifeq ($(shell git config user.email),)
export XDG_CONFIG_HOME := $(CURDIR)/$(ENV)/config
endif

.PHONY: help demo env check test soak bench profile reproduce lint

help:
	@echo "make TARGET, in the repository's root:"
	@sed -n 's/^## \([a-z]*\): /  \1\t/p' Makefile | expand -t 14

## demo: a small study of two optimizers on handwritten digits, compared and reported
demo: env
	python -m lab.study run studies/digits/study.yaml
	python -m lab.study report studies/digits/study.yaml
	python -m lab.report.compare demo-resnet18-sgd-s1 demo-resnet18-adam-s1 --reference --out plots/demo/accuracy_vs_budget.png
	@echo "The same as a page of DVC, which opens without internet:"
	@dvc plots diff demo-resnet18-sgd-s1 demo-resnet18-adam-s1 --out plots/demo
	@echo "Digits show how the laboratory works. They do not show which optimizer is better on CIFAR-10."

## env: install the pinned packages, and set up plots that open without internet
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
	touch $@

$(READY_DEV): $(READY) requirements-dev.txt
	python -m pip install --quiet --requirement requirements.txt --requirement requirements-dev.txt
	touch $@

## check: style, types and the fast tests; 3 to 6 minutes on two cores
check: lint
	$(PYTEST) -m "not pipeline and not soak"

## test: check, then the pipeline through DVC; about 20 minutes
test: check
	$(PYTEST) -m "pipeline and not soak"

## soak: kill runs, fill disks, run SLURM and S3; some tests need root
soak: $(READY_DEV)
	$(PYTEST) -m soak

## bench: speed and accuracy against the usual loop, on CIFAR-10; 40 minutes on two cores
bench: env
	python -m bench.speed
	python -m bench.parity

## profile: where the seconds of a cycle go, on this machine
profile: env
	python -m bench.profile

## reproduce: run one small experiment in two clones, and compare every result by its hash
reproduce: $(READY_DEV)
	python -m pytest tests/test_reproduce.py

## lint: style and types
lint: $(READY_DEV)
	ruff check .
	ruff format --check .
	mypy
