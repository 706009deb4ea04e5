################################################################################
#
# mote-tools
#
################################################################################

MOTE_TOOLS_VERSION = $(MOTE_COMMIT)
MOTE_TOOLS_SITE = $(MOTE_SITE)
MOTE_TOOLS_SITE_METHOD = $(MOTE_SITE_METHOD)
# One download for both packages: they are one workspace.
MOTE_TOOLS_DL_SUBDIR = mote-agent
MOTE_TOOLS_SOURCE = $(MOTE_AGENT_SOURCE)
HOST_MOTE_TOOLS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(MOTE_RSYNC_EXCLUSIONS)
HOST_MOTE_TOOLS_PRE_BUILD_HOOKS += MOTE_VENDOR
MOTE_TOOLS_SUBDIR = verifier-lite
MOTE_TOOLS_LICENSE = Apache-2.0
MOTE_TOOLS_LICENSE_FILES = LICENSE

HOST_MOTE_TOOLS_CARGO_BUILD_OPTS = --bin motectl
HOST_MOTE_TOOLS_CARGO_INSTALL_OPTS = --bin motectl

$(eval $(host-cargo-package))

BR_NO_CHECK_HASH_FOR += $(HOST_MOTE_TOOLS_SOURCE)
