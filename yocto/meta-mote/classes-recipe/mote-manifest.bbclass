# nooelint: oelint.bbclass.underscores
# Deploys a signed manifest of the finished root file system beside the image, as IMAGE.mote: what the
# verifier compares a device's measurement list with. For an image recipe, or IMAGE_CLASSES.

# The private key (motectl key new --out image.key). It stays outside of every layer and build directory.
MOTE_MANIFEST_KEY ??= ""
MOTE_MANIFEST_NAME ?= "${IMAGE_BASENAME}-${MACHINE}"
MOTE_MANIFEST_VERSION ?= "${DISTRO_VERSION}"
# What changes at run time on a root that is not read-only, as globs: never judged. `**` crosses `/`.
MOTE_MANIFEST_EXCLUDE ?= "${sysconfdir}/machine-id ${sysconfdir}/timestamp ${localstatedir}/lib/systemd/** ${localstatedir}/lib/urandom/**"
# More options of `motectl manifest build`, such as --secure-boot.
MOTE_MANIFEST_OPTIONS ?= ""

do_mote_manifest() {
    if [ -z "${MOTE_MANIFEST_KEY}" ]; then
        bbfatal "MOTE_MANIFEST_KEY is not set: name the private key that signs the manifest of ${PN} (make one with: motectl key new --out image.key)"
    fi
    if [ ! -r "${MOTE_MANIFEST_KEY}" ]; then
        bbfatal "MOTE_MANIFEST_KEY: cannot read ${MOTE_MANIFEST_KEY}"
    fi

    set -f
    set -- ${MOTE_MANIFEST_OPTIONS}
    for glob in ${MOTE_MANIFEST_EXCLUDE}; do
        set -- "$@" --exclude "$glob"
    done
    set +f
    motectl manifest build --quiet --rootfs ${IMAGE_ROOTFS} --sign "${MOTE_MANIFEST_KEY}" \
        --name "${MOTE_MANIFEST_NAME}" --version "${MOTE_MANIFEST_VERSION}" "$@" \
        --output ${IMGDEPLOYDIR}/${IMAGE_NAME}.mote ||
        bbfatal "motectl made no manifest of ${IMAGE_ROOTFS}; what it said is above"
    if [ -n "${IMAGE_LINK_NAME}" ] && [ "${IMAGE_LINK_NAME}" != "${IMAGE_NAME}" ]; then
        ln -sf ${IMAGE_NAME}.mote ${IMGDEPLOYDIR}/${IMAGE_LINK_NAME}.mote
    fi
}
do_mote_manifest[doc] = "Deploys a signed manifest of the root file system beside the image"
do_mote_manifest[depends] += "mote-verifier-native:do_populate_sysroot"
# Another key signs anew; where the key lies does not matter. The private one is not hashed.
do_mote_manifest[vardepsexclude] += "MOTE_MANIFEST_KEY"
do_mote_manifest[file-checksums] += "${@'%s.pub:%s' % (d.getVar('MOTE_MANIFEST_KEY'), os.path.exists(d.getVar('MOTE_MANIFEST_KEY') + '.pub')) if d.getVar('MOTE_MANIFEST_KEY') else ''}"
# do_image is the last that changes the root file system.
addtask mote_manifest after do_image before do_image_complete
