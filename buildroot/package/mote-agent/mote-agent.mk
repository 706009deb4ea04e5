################################################################################
#
# mote-agent
#
################################################################################

MOTE_AGENT_VERSION = $(MOTE_COMMIT)
MOTE_AGENT_SITE = $(MOTE_SITE)
MOTE_AGENT_SITE_METHOD = $(MOTE_SITE_METHOD)
MOTE_AGENT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(MOTE_RSYNC_EXCLUSIONS)
MOTE_AGENT_PRE_BUILD_HOOKS += MOTE_VENDOR
MOTE_AGENT_SUBDIR = agent
MOTE_AGENT_LICENSE = Apache-2.0
MOTE_AGENT_LICENSE_FILES = LICENSE

# cargo install builds a second time, so both steps need the same features.
MOTE_AGENT_FEATURES = $(subst $(space),$(comma),$(strip \
	$(if $(BR2_PACKAGE_MOTE_AGENT_TPM_DIRECT),tpm-direct) \
	$(if $(BR2_PACKAGE_MOTE_AGENT_TPM2_TSS),esapi) \
	$(if $(BR2_PACKAGE_MOTE_AGENT_TLS),tls)))
MOTE_AGENT_CARGO_BUILD_OPTS = --no-default-features --features $(MOTE_AGENT_FEATURES)
MOTE_AGENT_CARGO_INSTALL_OPTS = $(MOTE_AGENT_CARGO_BUILD_OPTS)

# Profile release-tiny of Cargo.toml: cargo-package knows only release. Short relocations where the C library is
# known to be new enough for them. On arm cargo-package has a flag of its own, which these take the place of.
ifeq ($(BR2_PACKAGE_MOTE_AGENT_TINY),y)
MOTE_AGENT_LINKER_OPTS = --compact \
	$(if $(BR2_TOOLCHAIN_BUILDROOT_GLIBC)$(BR2_TOOLCHAIN_BUILDROOT_MUSL),--relr) \
	$(if $(BR2_PACKAGE_MOTE_AGENT_TLS),--tls)
MOTE_AGENT_CARGO_ENV = \
	CARGO_PROFILE_RELEASE_OPT_LEVEL="z" \
	CARGO_PROFILE_RELEASE_LTO="fat" \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS="1" \
	CARGO_PROFILE_RELEASE_PANIC="abort" \
	CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))_RUSTFLAGS="$$($(@D)/agent/linker/rustflags.sh \
		$(MOTE_AGENT_LINKER_OPTS))$(if $(filter arm,$(NORMALIZED_ARCH)), -C link-arg=-Wl$(comma)--allow-multiple-definition)"
endif

ifeq ($(BR2_PACKAGE_MOTE_AGENT_TPM2_TSS),y)
MOTE_AGENT_DEPENDENCIES += tpm2-tss host-pkgconf
endif

MOTE_AGENT_VERIFIER = $(call qstrip,$(BR2_PACKAGE_MOTE_AGENT_VERIFIER))
MOTE_AGENT_VERIFIER_KEY = $(call qstrip,$(BR2_PACKAGE_MOTE_AGENT_VERIFIER_KEY))
MOTE_AGENT_TLS_PIN = $(call qstrip,$(BR2_PACKAGE_MOTE_AGENT_TLS_PIN))

ifneq ($(MOTE_AGENT_VERIFIER),)
ifeq ($(BR2_PACKAGE_MOTE_AGENT):$(BR_BUILDING):$(MOTE_AGENT_VERIFIER_KEY),y:y:)
$(error BR2_PACKAGE_MOTE_AGENT_VERIFIER_KEY is empty: the agent believes no verifier without its public key)
endif
define MOTE_AGENT_INSTALL_CONFIG
	$(INSTALL) -D -m 0640 $(MOTE_AGENT_VERIFIER_KEY) $(TARGET_DIR)/etc/mote/verifier.pub
	printf 'verifier = "%s"\nverifier_key = "/etc/mote/verifier.pub"\nuser = "mote"\n' \
		'$(MOTE_AGENT_VERIFIER)' > $(TARGET_DIR)/etc/mote/agent.toml
	$(if $(MOTE_AGENT_TLS_PIN),printf 'tls_pin = "%s"\n' '$(MOTE_AGENT_TLS_PIN)' \
		>> $(TARGET_DIR)/etc/mote/agent.toml)
	chmod 0640 $(TARGET_DIR)/etc/mote/agent.toml
endef
MOTE_AGENT_POST_INSTALL_TARGET_HOOKS += MOTE_AGENT_INSTALL_CONFIG
endif

define MOTE_AGENT_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(MOTE_AGENT_PKGDIR)/S15tpm $(TARGET_DIR)/etc/init.d/S15tpm
	$(INSTALL) -D -m 0755 $(MOTE_AGENT_PKGDIR)/S60mote-agent $(TARGET_DIR)/etc/init.d/S60mote-agent
endef

define MOTE_AGENT_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/agent/dist/mote-agent.service \
		$(TARGET_DIR)/usr/lib/systemd/system/mote-agent.service
	$(INSTALL) -D -m 0644 $(@D)/agent/dist/60-mote.rules \
		$(TARGET_DIR)/usr/lib/udev/rules.d/60-mote.rules
endef

# The agent starts as root, opens TPM and measurement list, and then is mote. Group tss is whose the TPM is,
# as udev and tpm2-tss name it.
define MOTE_AGENT_USERS
	mote -1 mote -1 * - - - Mote attestation agent
	tss -1 tss -1 * - - - TPM users
endef

# IMA must find the TPM when it starts, so its driver is built in; see board/common/mote.config.
define MOTE_AGENT_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECURITY)
	$(call KCONFIG_ENABLE_OPT,CONFIG_SECURITYFS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TCG_TPM)
	$(call KCONFIG_ENABLE_OPT,CONFIG_INTEGRITY)
	$(call KCONFIG_ENABLE_OPT,CONFIG_CRYPTO_SHA256)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IMA)
	$(call KCONFIG_DISABLE_OPT,CONFIG_IMA_DEFAULT_HASH_SHA1)
	$(call KCONFIG_ENABLE_OPT,CONFIG_IMA_DEFAULT_HASH_SHA256)
endef

$(eval $(cargo-package))

BR_NO_CHECK_HASH_FOR += $(MOTE_AGENT_SOURCE)
