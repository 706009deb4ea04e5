SUMMARY = "What a device needs to be attested by Mote"
DESCRIPTION = "The agent and an IMA policy. The kernel options are the kernel's, see mote-kernel.bbclass."

require recipes-security/mote/mote-project.inc

inherit features_check packagegroup

REQUIRED_DISTRO_FEATURES = "mote"

RDEPENDS:${PN} = "mote-agent \
                  mote-ima-policy"
