# `make demo` and `make test` need nothing but Debian, Python and git: what is missing is installed first. Run as root.
# Debian's own is built with all optimisations, and starts a fifth sooner than one built without.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.1[1-9]) python3)
VENV := .venv
PREFIX ?= /usr/local
INSTALL_DIR ?= /opt/cutaway
UNIT_DIR ?= /etc/systemd/system

# What the tests run containers with, look at the kernel with, and compare with.
TEST_PACKAGES := busybox-static mmdebstrap iproute2 nftables iptables procps util-linux docker.io skopeo \
	bzip2 xz-utils zstd linux-libc-dev libseccomp2 bash fish zsh docker-registry openssl umoci buildah podman \
	crun containerd lxc lxcfs systemd-container bubblewrap fuse-overlayfs chromium fonts-dejavu-core \
	iputils-ping nginx-light uidmap dbus-daemon
# What the virtual machine on pure cgroup v2 needs.
VM_PACKAGES := qemu-system-x86 cpio kmod

export PATH := $(PATH):/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The command finds its Python through sh wherever it is put, and that finds its virtual environment. Here one knows
# both, and saves two milliseconds.
start-directly = sed -i -e "1s|.*|\#!$$(readlink -f $(1)/python) -IS|" \
	-e 's|^PYTHON = .*|PYTHON = "$(abspath $(1))/python"|' $(1)/cutaway $(1)/cutaway-oci

.DEFAULT_GOAL := help
.PHONY: help demo test test-vm lint format bench install uninstall clean

help: ## say what one can do here
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r target what; do \
		printf '  make %-12s %s\n' "$$target" "$$what"; done

demo: $(VENV)/installed ## start a container from this machine's own files and show what it is made of
	@$(VENV)/bin/python -m cutaway.cli.demo

test: $(VENV)/tested ## install what the tests need, and run them all
	@packaging/debian-packages $(TEST_PACKAGES) $(VM_PACKAGES)
	@$(VENV)/bin/python -m pytest

test-vm: $(VENV)/tested ## run the tests marked `vm` on a kernel with pure cgroup v2
	@packaging/debian-packages $(TEST_PACKAGES) $(VM_PACKAGES)
	@$(VENV)/bin/python -m pytest tests/vm

lint: $(VENV)/tested ## check format, style, types and that imports only go down
	@for linter in 'ruff format --check .' 'ruff check .' mypy lint-imports; do \
		$(VENV)/bin/$$linter || failed=1; done; [ ! "$$failed" ]

format: $(VENV)/tested ## put the sources in the house's format
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(VENV)/installed ## measure against Docker, podman, runc, crun and bubblewrap; writes docs/benchmarks.md
	@packaging/debian-packages busybox-static docker-registry mmdebstrap skopeo
	@$(VENV)/bin/python -m bench

install: ## install into /opt/cutaway, with the command in /usr/local/bin and a systemd unit
	@packaging/debian-packages python3-venv libseccomp2
	$(PYTHON) -m venv $(INSTALL_DIR)
	rm -rf build
	$(INSTALL_DIR)/bin/pip install --quiet .
	packaging/protect-interpreter -u $(INSTALL_DIR)/bin
	$(call start-directly,$(INSTALL_DIR)/bin)
	$(INSTALL_DIR)/bin/python packaging/freeze.py $(INSTALL_DIR)/bin
	packaging/protect-interpreter $(INSTALL_DIR)/bin
	install -d $(PREFIX)/bin
	ln -sf $(INSTALL_DIR)/bin/cutaway $(INSTALL_DIR)/bin/cutaway-oci $(PREFIX)/bin
	[ ! -d $(UNIT_DIR) ] || install -m 644 packaging/cutaway.service $(UNIT_DIR)

uninstall: ## take away what `make install` installed; containers and images stay
	packaging/protect-interpreter -u $(INSTALL_DIR)/bin
	rm -rf $(INSTALL_DIR) $(PREFIX)/bin/cutaway $(PREFIX)/bin/cutaway-oci $(UNIT_DIR)/cutaway.service

clean: ## remove the virtual environment and what the tools have cached
	rm -rf $(VENV) build dist src/*.egg-info .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/installed: pyproject.toml bin/cutaway bin/cutaway-oci
	@packaging/debian-packages libseccomp2
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { packaging/debian-packages python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(VENV)/bin/pip install --quiet --editable .
	@$(call start-directly,$(VENV)/bin)
	@touch $@

$(VENV)/tested: $(VENV)/installed
	@$(VENV)/bin/pip install --quiet --editable '.[dev]'
	@$(call start-directly,$(VENV)/bin)
	@touch $@
