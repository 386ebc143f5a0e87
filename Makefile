# make quickstart   set up and run the main job: corpus, training, export, clean install, verification, scores
# make test         set up and run all tests
# make quick        only the quick tests
# make matrix       by hand: test the wheel of quickstart on every Python found, with the oldest and the newest torch (downloads)
# make suites       by hand: test the wheel of quickstart in MTEB, X-ARES, XARES-LLM and EVAR (downloads)
# make foreign      by hand: verify and score hearbaseline.naive in a separate environment, on the tasks of quickstart (downloads)
# make reference    by hand: rebuild the reference model from Debian packages, see examples/reference/README.md (downloads)
# make transformers for one test: install transformers in a separate folder, since Lightning imports it when it finds it (downloads)
# make check        ruff format, ruff, mypy --strict
# make docs         build the documentation site in build/docs/site (Python 3.11 or newer)
# make clean        remove the output of quickstart

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUICKSTART := quickstart
JOBS ?= 2

.PHONY: quickstart test quick matrix suites foreign transformers check format docs clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} found; 3.10 to 3.13 is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about two minutes, 6 GB of disk)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

WHEEL := $(QUICKSTART)/dist/hear_quickstart-0.1.0-py3-none-any.whl

PAIRED := $(QUICKSTART)/shards/score $(QUICKSTART)/shards/sound $(QUICKSTART)/shards/all

quickstart: $(QUICKSTART)/report.html
	@echo "quickstart is done: the wheel $(WHEEL), the run $(QUICKSTART)/run, and as a page:"
	@cat $(QUICKSTART)/result.txt

# Pairs of clips that share the score, the instrument, or all parameters up to noise; the tasks have other sounds.
$(PAIRED:=/index.json): $(QUICKSTART)/shards/%/index.json: | $(VENV)/installed
	rm -rf $(@D)
	$(BIN)/python -m hear_ssl.synthesis instruments --out $(@D) --clips 1024 --seed 0 --keep $* $(if $(filter all,$*),--tasks $(QUICKSTART)/tasks)

# Resume or start a run: $(call fit,RUN,ARGUMENTS).
fit = if ls $(1)/checkpoints/*.ckpt >/dev/null 2>&1; then $(BIN)/python train/fit.py --resume $(1); \
	else rm -rf $(1) && $(BIN)/python train/fit.py $(2) run=$(1); fi

$(QUICKSTART)/run/done: $(PAIRED:=/index.json)
	$(call fit,$(QUICKSTART)/run,--config configs/quickstart.yaml data.shards=[$(subst $(space),$(comma),$(PAIRED))])
	@touch $@

$(WHEEL): $(QUICKSTART)/run/done
	$(BIN)/python export/package.py --checkpoint $(QUICKSTART)/run --name hear_quickstart --version 0.1.0 \
	  --weights-url https://example.com/hear_quickstart-0.1.0.safetensors --bundle-weights --allow-unpublished --out $(QUICKSTART)/dist

$(QUICKSTART)/verified: $(WHEEL)
	$(BIN)/python export/verify.py $(WHEEL)
	@touch $@

$(QUICKSTART)/scores/scores.json: $(QUICKSTART)/verified
	$(BIN)/python -m hear_ssl.evaluate --module $(QUICKSTART)/run --tasks $(QUICKSTART)/tasks --out $(QUICKSTART)/scores --grid fast --seeds 3

$(QUICKSTART)/report.html: $(QUICKSTART)/scores/scores.json
	$(BIN)/python -m hear_ssl.evaluation.report --scores $(QUICKSTART)/scores --module $(QUICKSTART)/run --tasks $(QUICKSTART)/tasks --out $@ \
	  > $(QUICKSTART)/result.txt

suites: $(WHEEL)
	$(BIN)/python export/verify.py $(WHEEL) --suites

foreign: $(PAIRED:=/index.json)
	$(BIN)/hear-ssl foreign hearbaseline.naive
	$(BIN)/hear-ssl verify hearbaseline.naive
	$(BIN)/hear-ssl evaluate --module hearbaseline.naive --tasks $(QUICKSTART)/tasks --out $(QUICKSTART)/foreign --grid fast

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

quick: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow"

transformers: $(VENV)/transformers/transformers

$(VENV)/transformers/transformers: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --upgrade --target $(VENV)/transformers \
	  transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 regex==2026.11.19
	@touch $@

matrix: $(WHEEL)
	$(BIN)/python -m hear_ssl.packaging.matrix $(WHEEL)

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed
	$(BIN)/python -m docs.build_site

clean:
	rm -rf $(QUICKSTART)

include examples/reference/reference.mk
