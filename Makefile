# Thin names over CMake presets and scripts. `make` alone explains them.
export ITHACA_CACHE ?= $(HOME)/.cache/ithaca
JOBS ?= $(shell nproc)
WERROR ?= OFF
SECONDS ?= 600
configure = cmake --preset $(1) $(if $(TORCH_ROOT),-DTORCH_ROOT=$(TORCH_ROOT)) -DCMAKE_COMPILE_WARNING_AS_ERROR=$(WERROR) --log-level=WARNING >build/$(1).configure.log || { cat build/$(1).configure.log; exit 1; }

.PHONY: help setup build demo test test-long lint format fuzz bench gpu-test bench-gpu clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## install what the build and the demo need: Debian packages, the pinned libtorch, the demo's model
	@scripts/setup.sh build demo

build:  ## install what is missing and build everything for the CPU
	@scripts/setup.sh build
	@mkdir -p build && $(call configure,cpu)
	@cmake --build --preset cpu -j $(JOBS)

demo: build  ## fine-tune a real model on a real book, sequence-parallel over two ranks; results in output/demo
	@scripts/setup.sh demo
	@scripts/demo.sh

test: build  ## the tests (under 10 minutes on two cores)
	@scripts/setup.sh test
	@scripts/test.sh cpu -LE long

test-long: build  ## the long tests (up to two hours): parallel equals single over the full product of layouts
	@TEST_SECONDS=7200 scripts/test.sh cpu -L long

lint:  ## formatting, layering rules, clang-tidy on the files changed (against LINT_BASE)
	@scripts/setup.sh build lint
	@mkdir -p build && $(call configure,cpu)
	@scripts/lint.sh

format:  ## clang-format every tracked source in place
	@scripts/setup.sh lint
	@git ls-files -z '*.h' '*.cpp' '*.cu' | xargs -0 clang-format-14 -i

fuzz:  ## every parser under random input, SECONDS=n each (default 600); what is found is kept in the cache folder
	@scripts/fuzz.sh $(SECONDS)

bench:  ## benchmarks on the CPU, ours and the peers' (bench/peers), in one run
	@scripts/setup.sh build bench
	@$(MAKE) --no-print-directory preset-bench
	@bench/run.sh cpu

gpu-test:  ## the tests that need an NVIDIA GPU (nvcc of CUDA 13 must be there)
	@scripts/gpu.sh test

bench-gpu:  ## benchmarks on an NVIDIA GPU
	@scripts/gpu.sh bench

# Any preset of CMakePresets.json, all of it or some targets:   make preset-clang TARGETS="ithaca kernels_test"
preset-%:
	@mkdir -p build && $(call configure,$*)
	@cmake --build --preset $* -j $(JOBS) $(if $(TARGETS),--target $(TARGETS))

clean:  ## remove what was built; the cache folder and output/ stay
	@rm -rf build
