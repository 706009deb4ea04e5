################################################################################
#
# mote-ima-policy
#
################################################################################

MOTE_IMA_POLICY_LICENSE = Apache-2.0

define MOTE_IMA_POLICY_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0644 $(MOTE_IMA_POLICY_PKGDIR)/ima-policy $(TARGET_DIR)/etc/ima/ima-policy
endef

# systemd would load it itself, but Buildroot builds it without.
define MOTE_IMA_POLICY_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(MOTE_IMA_POLICY_PKGDIR)/mote-ima-policy.service \
		$(TARGET_DIR)/usr/lib/systemd/system/mote-ima-policy.service
endef

define MOTE_IMA_POLICY_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(MOTE_IMA_POLICY_PKGDIR)/S16ima-policy $(TARGET_DIR)/etc/init.d/S16ima-policy
endef

$(eval $(generic-package))
