//! Every bound on what a peer may make us hold or walk through, each with its reason.

/// Largest CoAP message either side accepts, in bytes. A hello with an RSA EK, an RSA AK and an EK
/// certificate is about 1.9 kB; anything larger is not ours.
pub const MAX_MESSAGE: usize = 2560;

/// Default of the largest datagram either way, in bytes. Fits the
/// IPv6 minimum MTU (1280) with room for OSCORE, CoAP, UDP and IP headers.
pub const DEFAULT_DATAGRAM: usize = 1024;

/// Deepest nesting of arrays and maps in any of our messages. hello and open need 4.
pub const MAX_CBOR_DEPTH: usize = 8;

/// Largest `TPMT_PUBLIC`, in bytes: an RSA-4096 key with a policy digest is about 600.
pub const MAX_TPMT_PUBLIC: usize = 640;

/// Largest `TPMS_ATTEST` of a quote, in bytes: names and extraData of 66 bytes each, 16 banks.
pub const MAX_TPMS_ATTEST: usize = 384;

/// Largest `TPMT_SIGNATURE`, in bytes: RSA-4096 is 518.
pub const MAX_TPMT_SIGNATURE: usize = 520;

/// Largest EK certificate, in bytes (DER). Real ones are 700 to 1,600.
pub const MAX_EK_CERTIFICATE: usize = 2048;

/// Longest template name in an IMA list (the kernel's own limit is 15; a format string is longer).
pub const MAX_IMA_TEMPLATE_NAME: usize = 256;

/// Largest template data of one IMA record, in bytes. Paths are at most 4,096, signatures about
/// 600, `ima-buf` carries measured buffers such as keys or a kexec command line.
pub const MAX_IMA_TEMPLATE_DATA: usize = 64 * 1024;

/// Largest encoding of one IMA record as a message's only entry, in bytes: name, data, and their heads,
/// PCR and violation.
pub const MAX_RECORD: usize = MAX_IMA_TEMPLATE_NAME + MAX_IMA_TEMPLATE_DATA + 16;

/// Most bytes of a record in one message: what fits [`MAX_MESSAGE`] with everything around it.
pub const MAX_RECORD_PART: usize = 2048;

/// Most PCR banks in one selection (TPM 2.0 Library part 2, `HASH_COUNT` of PC Client TPMs is 3 to 5).
pub const MAX_PCR_BANKS: usize = 4;

/// PCRs of a PC Client TPM (PC Client Platform TPM Profile, 4.6).
pub const PCR_COUNT: usize = 24;

/// Longest OSCORE ID Context, in bytes. Ours have none; that of RFC 8613, appendix C has 8.
pub const MAX_ID_CONTEXT: usize = 32;

/// Longest OSCORE Sender ID with a 13-byte nonce (RFC 8613, 3.3).
pub const MAX_KID: usize = 7;

/// Largest boot event log, in bytes. SeaBIOS writes 3 kB, OVMF 5 to 25 kB, servers with many option
/// ROMs and a full dbx some 200 kB.
pub const MAX_BOOT_LOG: usize = 512 * 1024;

/// Most bytes of a boot event log in one message: what fits [`MAX_MESSAGE`] with everything around it.
pub const MAX_BOOT_PART: usize = 2048;

/// Most hash algorithms that a boot event log may announce. The TCG registry has eight that a PC
/// Client TPM may use; firmware uses one to five.
pub const MAX_BOOT_LOG_BANKS: usize = 8;
