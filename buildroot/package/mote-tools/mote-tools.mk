################################################################################
#
# mote-tools
#
################################################################################

MOTE_TOOLS_VERSION = $(MOTE_COMMIT)
MOTE_TOOLS_SITE = $(call qstrip,$(BR2_MOTE_GIT))
MOTE_TOOLS_SITE_METHOD = git
MOTE_TOOLS_SUBDIR = verifier-lite
MOTE_TOOLS_LICENSE = Apache-2.0
MOTE_TOOLS_LICENSE_FILES = LICENSE

HOST_MOTE_TOOLS_CARGO_BUILD_OPTS = --bin motectl
HOST_MOTE_TOOLS_CARGO_INSTALL_OPTS = --bin motectl

$(eval $(host-cargo-package))

BR_NO_CHECK_HASH_FOR += $(HOST_MOTE_TOOLS_SOURCE)
