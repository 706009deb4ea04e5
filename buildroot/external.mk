# The commit to build. It is the repository's own, so no hash can be written down for it here.
MOTE_COMMIT = $(call qstrip,$(BR2_MOTE_VERSION))
ifeq ($(call qstrip,$(BR2_MOTE_VERSION)),HEAD)
MOTE_COMMIT = $(shell git -C $(BR2_EXTERNAL_MOTE_PATH) rev-parse HEAD 2>/dev/null)
endif

include $(sort $(wildcard $(BR2_EXTERNAL_MOTE_PATH)/package/*/*.mk))
