# One command for each chore; ./demo and ./check need none of them.
bin := .venv/bin
compile := UV_CUSTOM_COMPILE_COMMAND="make lock" $(bin)/uv pip compile pyproject.toml --group build \
	--python-version 3.11 --python-platform linux --generate-hashes --no-emit-index-url --no-header --quiet

.PHONY: demo check format lint types layers test bench fuzz lock vendor

demo: ; ./demo
check: ; ./check
format: ; $(bin)/ruff check --fix-only . && $(bin)/ruff format .
lint: ; $(bin)/ruff format --check . && $(bin)/ruff check .
types: ; $(bin)/mypy
layers: ; $(bin)/lint-imports --no-logo
test: ; $(bin)/pytest
# All of them, one after another; each can be run alone and has options: .venv/bin/python -m benchmarks.storage --help
bench:
	$(bin)/python -m benchmarks.storage
	$(bin)/python -m benchmarks.ingest
	$(bin)/python -m benchmarks.end_to_end
# Ten million inputs, which takes hours: .venv/bin/python -m tools.fuzz --help
fuzz: ; nice -n 15 $(bin)/python -m tools.fuzz
# Keeps the versions in the lock files; to take newer ones: make lock UPGRADE=--upgrade
lock:
	$(compile) $(UPGRADE) --output-file requirements.lock >/dev/null
	$(compile) $(UPGRADE) --group dev --constraint requirements.lock --output-file requirements-dev.lock >/dev/null
vendor: ; $(bin)/python -m web.vendor
