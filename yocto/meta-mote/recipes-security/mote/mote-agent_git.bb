SUMMARY = "Remote attestation agent for small devices"
DESCRIPTION = "Quotes the TPM 2.0 and pushes the new entries of the kernel's IMA measurement list to a \
               Mote verifier, as CBOR over CoAP. Writes nothing to disk."
# Ours, and that of the crates that end up in the program.
LICENSE = "Apache-2.0 & BSD-3-Clause & BlueOak-1.0.0 & ISC & MIT"

require mote.inc

SRC_URI += "file://agent.toml"

inherit cargo-update-recipe-crates features_check systemd update-rc.d useradd

REQUIRED_DISTRO_FEATURES = "mote"

# The verifier, as HOST or coaps+tcp://HOST, and the file with its public key (DIR/verifier.pub, which it
# makes at its first start). Empty: /etc/mote/agent.toml is completed elsewhere, such as in a bbappend.
MOTE_VERIFIER ?= ""
MOTE_VERIFIER_KEY ?= ""

# The names are those of the features in agent/Cargo.toml. The TPM is reached by tpm-direct or by esapi; with
# both, by esapi.
PACKAGECONFIG ??= "tpm-direct"
PACKAGECONFIG[env_logger] = "--features=env_logger"
PACKAGECONFIG[esapi] = "--features=esapi,,tpm2-tss,libtss2 libtss2-tcti-device"
PACKAGECONFIG[esapi-swtpm] = "--features=esapi-swtpm,,tpm2-tss,libtss2"
PACKAGECONFIG[tls] = "--features=tls"
PACKAGECONFIG[tpm-direct] = "--features=tpm-direct"

CARGO_SRC_DIR = "agent"
# scarthgap's cargo.bbclass leaves PACKAGECONFIG_CONFARGS out; twice does no harm.
CARGO_BUILD_FLAGS += "--no-default-features ${PACKAGECONFIG_CONFARGS}"
export CARGO_PROFILE_RELEASE_OPT_LEVEL = "z"

# Where the distribution's libstd aborts on panic, nothing reads tables to unwind with (agent/linker/README.md).
# Every release's glibc knows short relocations.
RUSTFLAGS:append = "${@' $(${S}/agent/linker/rustflags.sh --relr --compact%s)' % bb.utils.contains('PACKAGECONFIG', 'tls', ' --tls', '', d) \
    if (d.getVar('RUST_PANIC_STRATEGY'), d.getVar('TCLIBC')) == ('abort', 'glibc') else ''}"

do_install:append() {
    install -d ${D}${systemd_system_unitdir} ${D}${sysconfdir}/init.d ${D}${nonarch_base_libdir}/udev/rules.d
    install -m 0644 ${S}/agent/dist/mote-agent.service ${D}${systemd_system_unitdir}
    install -m 0755 ${S}/agent/dist/mote-agent.init ${D}${sysconfdir}/init.d/mote-agent
    install -m 0644 ${S}/agent/dist/60-mote.rules ${D}${nonarch_base_libdir}/udev/rules.d

    install -d -m 0750 ${D}${sysconfdir}/mote
    install -m 0640 ${UNPACKDIR}/agent.toml ${D}${sysconfdir}/mote
    if [ -n "${MOTE_VERIFIER}" ]; then
        [ -r "${MOTE_VERIFIER_KEY}" ] ||
            bbfatal "MOTE_VERIFIER is set, but MOTE_VERIFIER_KEY (${MOTE_VERIFIER_KEY}) is no readable file: it must be the verifier's public key"
        install -m 0640 "${MOTE_VERIFIER_KEY}" ${D}${sysconfdir}/mote/verifier.pub
        printf 'verifier = "%s"\nverifier_key = "%s"\n' "${MOTE_VERIFIER}" "${sysconfdir}/mote/verifier.pub" \
            >> ${D}${sysconfdir}/mote/agent.toml
    fi
    chown -R root:mote ${D}${sysconfdir}/mote
}
do_install[file-checksums] += "${@'%s:%s' % (d.getVar('MOTE_VERIFIER_KEY'), os.path.exists(d.getVar('MOTE_VERIFIER_KEY'))) if d.getVar('MOTE_VERIFIER_KEY') else ''}"
do_install[vardepsexclude] += "MOTE_VERIFIER_KEY"

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_base_libdir}/udev/rules.d"
CONFFILES:${PN} = "${sysconfdir}/mote/agent.toml"

SYSTEMD_SERVICE:${PN} = "mote-agent.service"
INITSCRIPT_NAME = "mote-agent"
INITSCRIPT_PARAMS = "defaults 60 20"

USERADD_PACKAGES = "${PN}"
# tss: who may use the TPM, as udev and tpm2-tss name it.
GROUPADD_PARAM:${PN} = "--system mote; --system tss"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell /sbin/nologin --gid mote --groups tss mote"
