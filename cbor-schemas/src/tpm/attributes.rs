//! `TPMA_OBJECT` (TPM 2.0 Library, part 2, 8.3): what a key may be used for, and where it may go.

/// Attributes of an object. Only bits that the specification defines can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectAttributes(u32);

impl ObjectAttributes {
    const FIXED_TPM: u32 = 1 << 1;
    const ST_CLEAR: u32 = 1 << 2;
    const FIXED_PARENT: u32 = 1 << 4;
    const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    const USER_WITH_AUTH: u32 = 1 << 6;
    const ADMIN_WITH_POLICY: u32 = 1 << 7;
    const FIRMWARE_LIMITED: u32 = 1 << 8;
    const SVN_LIMITED: u32 = 1 << 9;
    const NO_DA: u32 = 1 << 10;
    const ENCRYPTED_DUPLICATION: u32 = 1 << 11;
    const RESTRICTED: u32 = 1 << 16;
    const DECRYPT: u32 = 1 << 17;
    const SIGN: u32 = 1 << 18;
    const X509_SIGN: u32 = 1 << 19;

    const DEFINED: u32 = Self::FIXED_TPM
        | Self::ST_CLEAR
        | Self::FIXED_PARENT
        | Self::SENSITIVE_DATA_ORIGIN
        | Self::USER_WITH_AUTH
        | Self::ADMIN_WITH_POLICY
        | Self::FIRMWARE_LIMITED
        | Self::SVN_LIMITED
        | Self::NO_DA
        | Self::ENCRYPTED_DUPLICATION
        | Self::RESTRICTED
        | Self::DECRYPT
        | Self::SIGN
        | Self::X509_SIGN;

    /// The attributes with these bits; `None` if a reserved one is set.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::DEFINED == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The bits as they stand on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// `fixedTPM`: can never leave this TPM.
    pub const fn fixed_tpm(self) -> bool {
        self.has(Self::FIXED_TPM)
    }

    /// `stClear`: saved contexts die at the next start-up.
    pub const fn st_clear(self) -> bool {
        self.has(Self::ST_CLEAR)
    }

    /// `fixedParent`: can never get another parent.
    pub const fn fixed_parent(self) -> bool {
        self.has(Self::FIXED_PARENT)
    }

    /// `sensitiveDataOrigin`: the TPM made the secret part itself.
    pub const fn sensitive_data_origin(self) -> bool {
        self.has(Self::SENSITIVE_DATA_ORIGIN)
    }

    /// `userWithAuth`: may be used with a password or HMAC.
    pub const fn user_with_auth(self) -> bool {
        self.has(Self::USER_WITH_AUTH)
    }

    /// `adminWithPolicy`: administration needs the policy.
    pub const fn admin_with_policy(self) -> bool {
        self.has(Self::ADMIN_WITH_POLICY)
    }

    /// `firmwareLimited`: bound to one TPM firmware.
    pub const fn firmware_limited(self) -> bool {
        self.has(Self::FIRMWARE_LIMITED)
    }

    /// `svnLimited`: bound to a TPM firmware's security version.
    pub const fn svn_limited(self) -> bool {
        self.has(Self::SVN_LIMITED)
    }

    /// `noDA`: outside dictionary attack protection.
    pub const fn no_da(self) -> bool {
        self.has(Self::NO_DA)
    }

    /// `encryptedDuplication`: duplication must be encrypted.
    pub const fn encrypted_duplication(self) -> bool {
        self.has(Self::ENCRYPTED_DUPLICATION)
    }

    /// `restricted`: signs only what the TPM made, decrypts only what the TPM may then use.
    pub const fn restricted(self) -> bool {
        self.has(Self::RESTRICTED)
    }

    /// `decrypt`.
    pub const fn decrypt(self) -> bool {
        self.has(Self::DECRYPT)
    }

    /// `sign` (for symmetric keys: encrypt).
    pub const fn sign(self) -> bool {
        self.has(Self::SIGN)
    }

    /// `x509sign`: may only sign certificates that the TPM makes.
    pub const fn x509_sign(self) -> bool {
        self.has(Self::X509_SIGN)
    }

    /// Made by this TPM and bound to it for ever: `fixedTPM`, `fixedParent` and
    /// `sensitiveDataOrigin`.
    pub const fn bound_to_tpm(self) -> bool {
        self.has(Self::FIXED_TPM | Self::FIXED_PARENT | Self::SENSITIVE_DATA_ORIGIN)
    }
}
