# The benchmarks' targets, included by the Makefile.
#
#   make bench-list                                    the whole matrix: hours
#   make bench-list SIZES=1k,10k REPEATS=1             a minute
#   make bench-list SIZES=100k STYLES=sets PEERS=dataflux,sequential,upstream:workers=16   names that people have
#   make bench-download WORKLOADS=11098x10KiB
#   make bench-figures FIGURES=pack COUNT=10k          select, splits, reuse, pack: what each takes, beside its bound
#   make bench-task SIZES=1k,10k                       whole tasks on a real Airflow
#   make bench-list OUTPUT=docs/performance            publish: write the results into the documentation
#
# Every variable below is an option of `tests/benchmarks`; `python tests/benchmarks list --help` explains them.

BENCH := .venv-bench
BENCH_RUN := $(CURDIR)/$(BENCH)/bin/python
BENCH_STAMP := $(BENCH)/dataflux-environment

# option(variable): --page-caps 1000 for PAGE_CAPS=1000, nothing if it is not set
bench-option = $(if $($(1)),--$(subst _,-,$(shell echo $(1) | tr A-Z a-z)) '$($(1))')
bench-options = $(foreach name,$(1) PEERS REPEATS OUTPUT SCRATCH QUIET_S LIMIT_S ONCE_ABOVE_S LISTS_PER_S READS_PER_S WRITES_PER_S,$(call bench-option,$(name)))

.PHONY: bench-list bench-download bench-figures bench-auto bench-task

bench-list: $(BENCH_STAMP) ## listings: this project beside its peers (SIZES=1k,10k STYLES=flat REPEATS=1 for a small run)
	@$(BENCH_RUN) tests/benchmarks list $(call bench-options,SIZES STYLES PAGE_CAPS UPSTREAM_MOST SEQUENTIAL_MOST LIST_S)

bench-download: $(BENCH_STAMP) ## downloads: this project beside its peers (WORKLOADS=111x10KiB REPEATS=1 for a small run)
	@$(BENCH_RUN) tests/benchmarks download $(call bench-options,WORKLOADS)

bench-auto: $(BENCH_STAMP) ## strategy auto beside both ways, in many regimes (REGIMES='slow disk' SIZES=10KiB REPEATS=1)
	@$(BENCH_RUN) tests/benchmarks auto $(call bench-options,REGIMES SIZES)

bench-figures: $(BENCH_STAMP) ## figures of select, split, reuse and pack beside their bounds (FIGURES=reuse,pack COUNT=10k for a part)
	@$(BENCH_RUN) tests/benchmarks figures $(call bench-option,FIGURES) $(call bench-option,COUNT) $(call bench-option,SCRATCH)

bench-task: airflow3 ## whole Airflow tasks beside those of Airflow's own provider (SIZES=1k REPEATS=1 for a small run)
	@PYTHONPATH=$(CURDIR):$(CURDIR)/tests:$(CURDIR)/tests/benchmarks $(RUN) -m dataflux_bench.task \
		$(foreach name,SIZES WAYS REPEATS ONE_BY_ONE_MOST OUTPUT SCRATCH,$(call bench-option,$(name)))

$(BENCH_STAMP): .ci/constraints-bench.txt
	@echo "Creating $(BENCH) and installing the packages of .ci/constraints-bench.txt (log: $(BENCH)/install.log)"
	@$(PYTHON) -m venv --clear $(BENCH)
	@$(BENCH_RUN) -m pip install --disable-pip-version-check --no-input --no-deps --requirement .ci/constraints-bench.txt \
		> $(BENCH)/install.log 2>&1 || { tail -20 $(BENCH)/install.log; exit 1; }
	@cp .ci/constraints-bench.txt $@
