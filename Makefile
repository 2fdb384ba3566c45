# make demo, make test and make check each build what they need in .venv, from Python 3.11 and nothing else.
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
UV := $(CURDIR)/$(BIN)/uv
# The fast tests of what depends most on other libraries' releases; for test-lowest.
LOWEST := tests/test_end_to_end.py tests/test_generators.py tests/test_trainer.py tests/test_gradients.py \
	tests/test_backbones.py tests/test_backbone_losses.py tests/test_lora.py tests/test_clip.py tests/test_iqa.py \
	tests/test_digits.py tests/test_hands.py tests/test_compare.py tests/test_statistics.py tests/test_hap.py \
	tests/test_weights.py

.PHONY: demo demo-train test test-slow test-wheel test-lowest check format clean

demo: $(INSTALLED)
	$(BIN)/hafbench run --model mannequin --out runs/demo

# A short fit of the model of the second experiment, which draws open hands and six in ten of them wrong; and its page.
demo-train: $(INSTALLED)
	$(BIN)/python research/experiment pairs --methods asap --pairs 600 --out runs/demo-train
	$(BIN)/asap-train fit --model mannequin=research/experiment/base/pipeline --config research/experiment/demo.yaml \
		--pairs runs/demo-train/pairs/rendered --out runs/demo-train/fit

test: $(INSTALLED)
	$(BIN)/hafbench weights pull
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# What takes minutes: kills at random moments, a Ray cluster, compiled networks, many processes.
test-slow: $(INSTALLED)
	$(BIN)/hafbench weights pull
	$(BIN)/pytest -m slow --numprocesses 2 --dist loadfile

# The built wheel, installed as a user installs it (without [tool.uv]), has all that `hafbench run` needs.
test-wheel: $(INSTALLED)
	rm -rf build
	$(UV) build --quiet --wheel --out-dir build
	$(PYTHON) -m venv --without-pip build/venv
	$(UV) pip install --quiet $$(cat $(INSTALLED)) --no-config --python build/venv/bin/python build/*.whl
	cd build && venv/bin/hafbench run --limit 2 --seeds 1

# The oldest releases that pyproject.toml allows. The environment stays in build/. One test does not hold there:
# PyTorch 2.6 draws other noise in half precision than in single, from the same seed.
test-lowest: $(INSTALLED)
	$(PYTHON) -m venv build/lowest
	$(UV) pip install --quiet $$(cat $(INSTALLED)) --resolution lowest-direct \
		--python build/lowest/bin/python --editable '.[dev,mediapipe]'
	build/lowest/bin/hafbench weights pull
	build/lowest/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(LOWEST) \
		--deselect tests/test_generators.py::test_half_precision_draws_nearly_the_same_image

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

# All that only a GPU can tell, in at most 25 minutes; run again to go on. The tables are docs/studies/gpu.md.
.PHONY: gpu
gpu: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[quantization]'
	$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build

# uv reads [tool.uv] of pyproject.toml, by which OpenCV is installed once. Compiled once, everything starts twice as fast.
# PyTorch comes in the build that fits this machine (without a GPU the CPU build, which is much smaller) from PyTorch's
# own index; where that is out of reach, from the registry. The choice is kept in the file $(INSTALLED).
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	backend=--torch-backend=$${UV_TORCH_BACKEND:-auto}; \
	echo torch | UV_HTTP_RETRIES=0 $(UV) pip compile --quiet --no-deps --python $(BIN)/python $$backend - >/dev/null 2>&1 || \
		backend=; \
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python $$backend --editable '.[dev,mediapipe]' && \
		echo $$backend > $@
