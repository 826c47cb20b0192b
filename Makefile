# bursar: the two commands of a fresh machine are `make demo` and `make test`. `make help` names the others.
# The logic is in tools/*.py; here is only what depends on what.

PYTHON3 ?= python3
VENV_PYTHON := .venv/bin/python
SOURCES := $(shell find meson.build meson.options pyproject.toml README.md src include preload pyext python web tests \
  -type f \( -name '*.[chyl]' -o -name '*.build' -o -name '*.options' -o -name '*.pyi' -o -name '*.pth' -o -name '*.typed' \
  -o -path 'python/*.py' -o -path 'web/*' -o -name '*.toml' \) -not -path '*/node_modules/*' 2>/dev/null)

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup build demo test bench check soak wheel format clean distclean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile | expand -t 18

setup:
	@$(PYTHON3) tools/prepare.py build

build: setup build/installed ## .venv/bin/python and .venv/bin/bursar, set up and built

build/installed: $(SOURCES) tools/install.py $(wildcard .venv/pyvenv.cfg)
	@$(VENV_PYTHON) tools/install.py
	@touch $@

demo: build ## a scikit-learn program under bursar: the summary here, the report in build/demo.html
	@$(PYTHON3) tools/prepare.py demo
	@.venv/bin/bursar run -f -o build/demo.bursar examples/demo.py
	@.venv/bin/bursar report build/demo.bursar --format html -o build/demo.html
	@echo "The report is $(CURDIR)/build/demo.html: open it in a browser."

test: ## all tests, and a core of them on each Python that is found
	@$(PYTHON3) tools/prepare.py test
	@$(MAKE) --no-print-directory build
	@$(VENV_PYTHON) tools/run_tests.py

bench: ## measure against other profilers: build/bench.json, docs/benchmarks.md
	@$(PYTHON3) tools/prepare.py bench
	@$(MAKE) --no-print-directory build
	@$(VENV_PYTHON) bench/run.py

check: ## lint, types, sanitizers, valgrind, all tests on Python 3.10 to 3.14, other programs' suites
	@$(PYTHON3) tools/prepare.py check
	@$(MAKE) --no-print-directory build
	@$(VENV_PYTHON) tools/check.py

soak: ## the tests that take hours
	@$(PYTHON3) tools/prepare.py check
	@$(MAKE) --no-print-directory build
	@$(VENV_PYTHON) tools/check.py soak

wheel: ## a wheel for other Linux machines, in dist/
	@$(PYTHON3) tools/prepare.py wheel
	@$(VENV_PYTHON) tools/build_wheel.py
	@$(VENV_PYTHON) -m pytest -q -m check tests/test_wheel.py

format: ## lay out the C code as .clang-format says
	@$(PYTHON3) tools/prepare.py check
	@.venv/bin/clang-format -i $$(find src pyext preload tests -name '*.[ch]')

clean: ## remove what was built; .venv stays
	rm -rf build dist

distclean: clean
	rm -rf --one-file-system .venv .roots
