# make site: from a fresh clone to a rendered site.  make test: all that a maintainer needs to trust a change.
.DEFAULT_GOAL := help
.PHONY: help site test serve run gpu stale lint bench new clean python setup setup-dev wheels
MAKEFLAGS += --no-print-directory

# The Python in use if the posts can run on it, else one that is installed beside it; PYTHON=... names another.
PYTHON ?= $(shell for p in python3 python python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo "$$p" && break; done)
PY := .venv/bin/python
BUDGET ?= auto
JOBS ?= 1
PORT ?= 4200

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile

site: setup  ## execute every post at BUDGET=auto into _build/, render _site/
	@$(PY) -m publish build --budget $(BUDGET) --jobs $(JOBS)

test: setup-dev lint  ## library, posts at smoke, runner, preview, workflows, with coverage of branches
	@$(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest
	@$(PY) -m coverage combine -q
	@$(PY) -m coverage report --skip-covered --fail-under=85

serve:  ## open the rendered site at http://localhost:4200 (PORT=...)
	@test -x $(PY) || { echo "nothing is installed yet: run make site first" >&2; exit 1; }
	@$(PY) -m publish serve --port $(PORT)

run: setup  ## execute posts and replace their committed outputs: ONLY=03 BUDGET=gpu
	@$(PY) -m publish run --in-place --budget $(BUDGET) --jobs $(JOBS) $(if $(ONLY),--only $(ONLY))

gpu: $(if $(WHEELS),wheels,setup)  ## on a GPU: posts and measurements not done yet: ONLY="02 bench/*" SKIP= MINUTES= OUT= WHEELS=
	@set -f; $(if $(WHEELS),PYTHONPATH="$(CURDIR)/_build/wheels:$$PYTHONPATH" "$(PYTHON)",$(PY)) -m publish gpu \
		$(if $(ONLY),--only $(ONLY)) $(if $(SKIP),--skip $(SKIP)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(OUT),--out "$(OUT)")

stale: setup  ## list the posts: fresh, stale and why, unverified, never run
	@$(PY) -m publish list

lint: setup-dev  ## ruff check and ruff format, notebooks included
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

bench: setup-dev  ## measure against peers: NAME=matmul, SAVE=1 keeps the results
	@$(PY) -m publish.install --extras site,dev,bench
	@$(PY) -m bench $(NAME) $(if $(SAVE),--save)

new: setup  ## start a post: POST=23-name
	@test -n "$(POST)" || { echo "name the post: make new POST=23-name" >&2; exit 2; }
	@$(PY) -m publish new $(POST)

clean: python  ## remove what was built, and nothing else (.venv stays)
	@"$(PYTHON)" -m publish clean

python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || { \
	echo "the posts need Python 3.11 or 3.12, and $(or $(PYTHON),no python3 here) is neither: install one," \
	"or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }

setup: python
	@"$(PYTHON)" -m publish.install --extras site

setup-dev: python
	@"$(PYTHON)" -m publish.install --extras site,dev

wheels: python
	@"$(PYTHON)" -m publish.install --wheels "$(WHEELS)"
