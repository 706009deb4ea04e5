SUMMARY = "Verifier for remote attestation, and its tool for operators and image builds"
DESCRIPTION = "mote-verifier appraises TPM quotes and IMA measurement lists against an image's reference \
               values. motectl makes those, as a signed manifest of the finished root file system."
# Ours, and that of the crates that end up in the programs.
LICENSE = "Apache-2.0 & BSD-3-Clause & BlueOak-1.0.0 & ISC & MIT"

require mote.inc

# What aws-lc-sys has bindings for.
COMPATIBLE_HOST:class-target = "(aarch64|x86_64).*-linux"

PROVIDES:append:class-native = " motectl-native"

CARGO_SRC_DIR = "verifier-lite"
CARGO_BUILD_FLAGS:append:class-native = " --bin motectl"

PACKAGE_BEFORE_PN = "motectl"
FILES:motectl += "${bindir}/motectl"

BBCLASSEXTEND = "native"
