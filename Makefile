# make book · pdf · check · test · nightly · run [CH=02] [J=2] · bench [Q=steps] · assignments
#      address URL=https://github.com/… · release V=1.2.0 · clean
VENV ?= .venv
PY := $(VENV)/bin/python
BOOK_TOOLS := jupyter-book jupytext numpy pillow sphinx-exercise sphinx-mathjax-offline

.PHONY: book pdf check test nightly run bench assignments address release clean
book: $(VENV)/.book
	$(VENV)/bin/jupyter-book build . --quiet --warningiserror --keep-going
	@echo "The book is ready: open file://$(CURDIR)/_build/html/index.html"

pdf: $(VENV)/.all book
	$(PY) -m press pdf

check test nightly: $(VENV)/.all
	@$(PY) -m press $@

run: $(VENV)/.all
	$(PY) -m press run $(CH) $(if $(J),--jobs $(J))

bench: $(VENV)/.all
	$(VENV)/bin/uv pip install --quiet --python $(PY) --group bench
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(PY) bench/run.py $(Q)

assignments: $(VENV)/.all
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(PY) assignments/make.py

# To another repository, or to another version; nothing has to be run again.
address: $(VENV)/.book
	@$(PY) -m press address $(URL)

release: $(VENV)/.book
	@$(PY) -m press release $(V)

clean:
	rm -rf _build

# Rendering needs no torch: a few small packages, in the versions of the lock.
$(VENV)/.book: requirements.lock
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet uv
	$(VENV)/bin/uv pip install --quiet --python $(PY) --constraint requirements.lock $(BOOK_TOOLS)
	touch $@

# pip takes torch (it may hold wheels of its own), uv the rest, faster.
$(VENV)/.all: requirements.lock requirements.txt $(VENV)/.book
	$(PY) -m pip install --quiet --constraint requirements.lock torch torchvision
	$(VENV)/bin/uv pip install --quiet --python $(PY) --requirement requirements.lock
	touch $@
