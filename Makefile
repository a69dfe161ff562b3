# make demo | make test | make bench | make soak | make build | make docs

GO ?= go
GOBIN := $(shell $(GO) env GOPATH)/bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.stamped=$(VERSION)
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -tags urfave_cli_no_docs -ldflags '$(LDFLAGS)'

# What the tests run beside emsafe, by command and Debian package. gcc is for
# the race detector alone: emsafe itself is built without cgo.
TOOLS := restic:restic age:age zstd:zstd sqlite3:sqlite3 ssh-keygen:openssh-client python3:python3 gcc:gcc strace:strace \
         man:man-db groff:groff-base promtool:prometheus systemd-analyze:systemd
# What the pages are looked at with. Tests that want it are skipped without.
LOOKS := chromium:chromium pdftotext:poppler-utils
GOTOOLS := github.com/versity/versitygw/cmd/versitygw@v1.8.0 honnef.co/go/tools/cmd/staticcheck@v0.8.2 github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

# The parts that `emsafe render` writes for. Their packages start services where
# there is an init system, so `make test` does not install them, and skips what
# they are for.
PARTS := nginx:nginx-light caddy:caddy uvicorn:uvicorn uvicorn:python3-fastapi nft:nftables fail2ban-regex:fail2ban logrotate:logrotate curl:curl ip:iproute2

# How long each kind of fault is made from outside; SOAK_ARGS='-seed N' repeats.
SOAK_TIME ?= 10m

.PHONY: build demo test bench soak docs screenshots deps tools parts clean

build:
	@mkdir -p bin
	$(BUILD) -o bin/emsafe ./cmd/emsafe

# DB=/path/to/app.db shows the same on your own database, which is only read.
demo:
	@mkdir -p bin
	@$(BUILD) -o bin/emsafe ./cmd/emsafe
	@./bin/emsafe demo --dir demo $(if $(DB),--db "$(DB)")

test: deps tools
	$(GO) vet ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	$(GOBIN)/staticcheck ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

# The same checks for longer, bounded in time; the seed is printed.
soak: deps tools
	CGO_ENABLED=1 EMSAFE_SOAK=1 $(GO) test -race -timeout 120m -count=1 -v -run 'Kill|Oracle|Damage|Live|Signal' $(shell $(GO) list ./... | grep -v /internal/soak)
	EMSAFE_SOAK=1 EMSAFE_SOAK_TIME=$(SOAK_TIME) $(GO) test -timeout 120m -count=1 -v ./internal/soak $(SOAK_ARGS)

# BENCH='-only delta,chain' chooses, BENCH='-write docs' updates
# docs/benchmarks.md, which says what is measured and how.
bench: deps tools
	@mkdir -p bin
	@$(BUILD) -o bin/emsafe ./cmd/emsafe
	@$(GO) run ./cmd/bench -emsafe bin/emsafe $(BENCH)

# The documents that are made from the program itself.
docs: build
	./bin/emsafe reference cli > docs/cli.md
	./bin/emsafe reference man > docs/emsafe.1
	./bin/emsafe reference errors > docs/errors.md
	./bin/emsafe reference configuration > docs/configuration.md
	@awk '/^\| id \|/{exit} {print}' docs/audit.md > docs/audit.new && ./bin/emsafe reference audit >> docs/audit.new && mv docs/audit.new docs/audit.md

# Pictures of sample pages, for the documents.
screenshots: deps
	@rm -rf .cache/shots && mkdir -p .cache/shots
	EMSAFE_SCREENSHOTS=$(CURDIR)/.cache/shots $(GO) test -count=1 -run Browser ./drill ./internal/daemon/page
	@cd .cache/shots && for f in overview-desktop:page overview-dark:page-dark database-desktop:page-database; do \
	  cp window-page-$${f%%:*}.png $(CURDIR)/docs/$${f##*:}.png; done
	@cp .cache/shots/window-missed-desktop.png docs/drill-report.png
	@cp .cache/shots/window-quarter-desktop.png docs/drill-quarter.png
	@ls -l docs/*.png

# Debian's packages, installed only where a command is missing.
deps:
	@missing=""; \
	for t in $(TOOLS); do command -v $${t%%:*} >/dev/null 2>&1 || missing="$$missing $${t##*:}"; done; \
	[ -e /usr/include/stdlib.h ] || missing="$$missing libc6-dev"; \
	if [ -n "$$missing" ]; then \
	  as=""; [ "$$(id -u)" = 0 ] || as=sudo; \
	  echo "installing:$$missing"; \
	  $$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
	  { echo "the tests need these packages:$$missing" >&2; exit 1; }; \
	fi
	@missing=""; \
	for t in $(LOOKS); do command -v $${t%%:*} >/dev/null 2>&1 || missing="$$missing $${t##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  as=""; [ "$$(id -u)" = 0 ] || as=sudo; \
	  $$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
	  echo "without$$missing the pages are not looked at" >&2; \
	fi

parts:
	@missing=""; \
	for t in $(PARTS); do PATH="$$PATH:/usr/sbin" command -v $${t%%:*} >/dev/null 2>&1 || missing="$$missing $${t##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing:$$missing"; \
	  as=""; [ "$$(id -u)" = 0 ] || as=sudo; \
	  $$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
	  echo "without$$missing what is rendered for them is not tried" >&2; \
	fi

# Go tools at pinned versions, skipped when they are there at that version.
tools:
	@for t in $(GOTOOLS); do \
	  path=$${t%@*}; \
	  $(GO) version -m $(GOBIN)/$${path##*/} 2>/dev/null | grep -q "mod.*$${path%/cmd/*}.*$${t##*@}" || GOFLAGS= $(GO) install $$t || exit 1; \
	done

clean:
	rm -rf bin demo .cache
