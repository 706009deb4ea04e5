SUMMARY = "IMA policy: measure what runs"
DESCRIPTION = "Measures what is executed, mapped for execution or loaded into the kernel, and none of the \
               files that change at run time. Loaded before any service, by systemd itself or by an init script."

require recipes-security/mote/mote-project.inc

LICENSE = "Apache-2.0"
# nooelint: oelint.var.licenseremotefile
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://ima-policy \
           file://mote-ima-policy.init \
           file://mote-ima-policy.service"

S = "${UNPACKDIR}"

inherit allarch features_check systemd update-rc.d

REQUIRED_DISTRO_FEATURES = "mote"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${sysconfdir}/ima ${D}${sysconfdir}/init.d ${D}${systemd_system_unitdir}
    install -m 0644 ${UNPACKDIR}/ima-policy ${D}${sysconfdir}/ima
    install -m 0755 ${UNPACKDIR}/mote-ima-policy.init ${D}${sysconfdir}/init.d/mote-ima-policy
    install -m 0644 ${UNPACKDIR}/mote-ima-policy.service ${D}${systemd_system_unitdir}
}

FILES:${PN} += "${systemd_system_unitdir}"
CONFFILES:${PN} = "${sysconfdir}/ima/ima-policy"

SYSTEMD_SERVICE:${PN} = "mote-ima-policy.service"
INITSCRIPT_NAME = "mote-ima-policy"
# After sysfs, before udev.
INITSCRIPT_PARAMS = "start 03 S ."
