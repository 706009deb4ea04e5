SUMMARY = "Image that is attested, for QEMU with a software TPM"
DESCRIPTION = "Boots, enrols at the verifier in MOTE_VERIFIER and is appraised against the manifest that \
               was deployed with it. See yocto/README.md."

require recipes-security/mote/mote-project.inc

LICENSE = "Apache-2.0"

inherit core-image features_check mote-manifest

REQUIRED_DISTRO_FEATURES = "mote"

# A read-only root changes nothing that the manifest names.
IMAGE_FEATURES += "read-only-rootfs"
IMAGE_INSTALL += "packagegroup-mote"

# Until the policy of mote-ima-policy is loaded, the kernel's own measures, so that nothing escapes.
QB_KERNEL_CMDLINE_APPEND:append = " ima_policy=tcb ima_hash=sha256"
# nooelint: oelint.vars.mispell.unknown
QB_KERNEL_ROOT = "/dev/vda ro"
