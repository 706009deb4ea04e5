# Where the agent and motectl are built from: a commit of BR2_MOTE_GIT, by default the HEAD of the
# repository that this tree is part of. It is the repository's own, so no hash can be written down for it
# here. A directory that is no repository of its own, or none that can be cloned from (a shallow one, or
# somebody else's), is copied as it stands.
MOTE_SITE = $(call qstrip,$(BR2_MOTE_GIT))
MOTE_COMMIT = $(call qstrip,$(BR2_MOTE_VERSION))
ifeq ($(MOTE_COMMIT),HEAD)
MOTE_COMMIT := $(shell exec 2>/dev/null; cd '$(MOTE_SITE)' && \
	[ "$$(git rev-parse --is-shallow-repository --show-prefix)" = false ] && \
	git rev-parse --verify --quiet HEAD)
endif
MOTE_SITE_METHOD = $(if $(MOTE_COMMIT),git,local)

# The cargo infrastructure vendors crates when it makes a tarball of a download. Sources that are copied
# (above, or by MOTE_AGENT_OVERRIDE_SRCDIR) are vendored when they are built, and again when Cargo.lock changes.
define MOTE_VENDOR
	$(if $($(PKG)_OVERRIDE_SRCDIR),cd $(@D) && cmp -s Cargo.lock .cargo/vendored.lock || \
		{ mkdir -p .cargo $(BR_CARGO_HOME) && \
		$(HOST_MAKE_ENV) $(PKG_COMMON_CARGO_ENV) flock $(BR_CARGO_HOME)/.br-lock \
			cargo vendor --locked VENDOR > .cargo/config.toml && \
		cp Cargo.lock .cargo/vendored.lock; })
endef
# Only what the build reads: an output folder may be in there as well.
MOTE_RSYNC_EXCLUSIONS = $(foreach kept,agent cbor-schemas tests verifier-lite,'--include=/$(kept)/***') \
	--include=/Cargo.toml --include=/Cargo.lock --include=/LICENSE '--exclude=*'

include $(sort $(wildcard $(BR2_EXTERNAL_MOTE_PATH)/package/*/*.mk))
