# nooelint: oelint.bbclass.underscores
# Builds a kernel with IMA and the TPM's driver, and fails the build when its final .config lacks one of the
# options: Kconfig drops what it cannot honour without a word, and the image would attest nothing.
#
# linux-yocto inherits this where DISTRO_FEATURES has "mote". For another kernel, in a bbappend:
#   inherit mote-kernel

# The TPM's bus: any of tis, crb, spi, i2c, ftpm. Its driver is built in, because IMA looks for the TPM once,
# when it starts.
MOTE_TPM ??= "tis${@' crb' if d.getVar('TARGET_ARCH') == 'x86_64' else ''}"

# nooelint: oelint.vars.fileextrapaths
FILESEXTRAPATHS:prepend := "${MOTE_LAYERDIR}/recipes-kernel/linux:"
SRC_URI:append = " file://mote-kmeta;type=kmeta;name=mote-kmeta;destsuffix=mote-kmeta"

def mote_kernel_options(form, d):
    """Each part of the options that were chosen, in this form."""
    return ' '.join(form % part for part in ['mote'] + ['tpm-' + bus for bus in d.getVar('MOTE_TPM').split()])

MOTE_KERNEL_FRAGMENTS = "${@mote_kernel_options('${UNPACKDIR}/mote-kmeta/features/mote/%s.cfg', d)}"

# With the kernel tools of kernel-yocto.bbclass ...
KERNEL_FEATURES:append = " ${@mote_kernel_options('features/mote/%s.scc', d)}"

# ... and with kernel.bbclass alone.
do_configure:append() {
    if ${@'false' if bb.data.inherits_class('kernel-yocto', d) else 'true'}; then
        cat ${MOTE_KERNEL_FRAGMENTS} >> ${B}/.config
        ${KERNEL_CONFIG_COMMAND}
    fi
}

mote_check_kernel_config() {
    missing=
    for fragment in ${MOTE_KERNEL_FRAGMENTS}; do
        while read -r line; do
            case $line in
            "# CONFIG_"*" is not set")
                option=${line#"# "}
                option=${option%" is not set"}
                if grep -q "^$option=" ${B}/.config; then
                    missing="$missing $option(must be off)"
                fi
                ;;
            CONFIG_*)
                grep -qxF "$line" ${B}/.config || missing="$missing $line"
                ;;
            esac
        done < $fragment
    done
    if [ -n "$missing" ]; then
        bbfatal "Mote wants these kernel options, but the final .config is without:$missing. Something that they depend on is off; MOTE_TPM is \"${MOTE_TPM}\"."
    fi
}
mote_check_kernel_config[doc] = "Fails if the final kernel configuration lacks what Mote needs"
do_configure[postfuncs] += "mote_check_kernel_config"
