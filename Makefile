# make demo, make test and make check each build what they need in .venv, from Python 3.11 and nothing else.
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo demo-train test check format clean

demo: $(INSTALLED)
	$(BIN)/hafbench run --model mannequin --out runs/demo

# A short fit, which may show nothing: what it shows is what its page says.
demo-train: $(INSTALLED)
	$(BIN)/asap-train synth --source mannequin --count 300 --licence Apache-2.0 --out runs/demo-train/mannequin-hap
	$(BIN)/asap-train fit --model mannequin --pairs runs/demo-train/mannequin-hap --out runs/demo-train/mannequin-asap \
		--steps 150 --set checkpointing_steps=75 --set score.every=75 --set score.seeds=1

test: $(INSTALLED)
	$(BIN)/hafbench weights pull
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Strict: a broken link or anchor is an error. The pages are in site/.
.PHONY: docs
docs: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

# uv reads [tool.uv] of pyproject.toml, by which OpenCV is installed once. Compiled once, everything starts twice as fast.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev,mediapipe]'
	touch $@
