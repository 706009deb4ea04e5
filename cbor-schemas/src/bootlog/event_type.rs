//! Event types (PC Client Platform Firmware Profile 1.06, 10.4.1).

use core::fmt;

/// The type that the log gives an event. **No PCR covers it.**
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);

macro_rules! types {
    ($( $(#[doc = $doc:literal])+ $name:ident $id:literal ),+ $(,)?) => {
        #[allow(missing_docs)]
        impl EventType {
            $( $(#[doc = $doc])+ pub const $name: Self = Self($id); )+

            /// The profile's name, such as `EV_SEPARATOR`; `None` if it has none.
            pub const fn name(self) -> Option<&'static str> {
                match self { $( Self::$name => Some(concat!("EV_", stringify!($name))), )+ _ => None }
            }
        }
    };
}

types! {
    /// Reserved.
    PREBOOT_CERT 0x0000_0000,
    /// BIOS code of old firmware.
    POST_CODE 0x0000_0001,
    /// Reserved.
    UNUSED 0x0000_0002,
    /// Says something about the log; extends nothing.
    NO_ACTION 0x0000_0003,
    /// Ends what came before the boot loader.
    SEPARATOR 0x0000_0004,
    /// A string that is measured itself.
    ACTION 0x0000_0005,
    /// A tag and what it tags.
    EVENT_TAG 0x0000_0006,
    /// Contents of the static root of trust.
    S_CRTM_CONTENTS 0x0000_0007,
    /// Version of the static root of trust.
    S_CRTM_VERSION 0x0000_0008,
    /// Microcode.
    CPU_MICROCODE 0x0000_0009,
    /// Configuration.
    PLATFORM_CONFIG_FLAGS 0x0000_000A,
    /// Inventory of the platform.
    TABLE_OF_DEVICES 0x0000_000B,
    /// A hash in a form of its own; U-Boot's kernel and initrd.
    COMPACT_HASH 0x0000_000C,
    /// A boot loader's code or strings.
    IPL 0x0000_000D,
    /// A boot loader's configuration.
    IPL_PARTITION_DATA 0x0000_000E,
    /// Code outside the host.
    NONHOST_CODE 0x0000_000F,
    /// Configuration outside the host.
    NONHOST_CONFIG 0x0000_0010,
    /// Outside the host.
    NONHOST_INFO 0x0000_0011,
    /// Boot devices were left out.
    OMIT_BOOT_DEVICE_EVENTS 0x0000_0012,
    /// POST code, with a description.
    POST_CODE2 0x0000_0013,
    /// A UEFI variable that configures the firmware: Secure Boot and its keys.
    EFI_VARIABLE_DRIVER_CONFIG 0x8000_0001,
    /// A UEFI variable with boot options.
    EFI_VARIABLE_BOOT 0x8000_0002,
    /// A UEFI application, such as a boot loader or a kernel with an EFI stub; Authenticode digest.
    EFI_BOOT_SERVICES_APPLICATION 0x8000_0003,
    /// A UEFI driver; Authenticode digest.
    EFI_BOOT_SERVICES_DRIVER 0x8000_0004,
    /// A UEFI runtime driver; Authenticode digest.
    EFI_RUNTIME_SERVICES_DRIVER 0x8000_0005,
    /// The partition table.
    EFI_GPT_EVENT 0x8000_0006,
    /// A string that is measured itself.
    EFI_ACTION 0x8000_0007,
    /// A part of the firmware.
    EFI_PLATFORM_FIRMWARE_BLOB 0x8000_0008,
    /// Tables that firmware hands over.
    EFI_HANDOFF_TABLES 0x8000_0009,
    /// A part of the firmware, with a description.
    EFI_PLATFORM_FIRMWARE_BLOB2 0x8000_000A,
    /// Tables that firmware hands over, with a description.
    EFI_HANDOFF_TABLES2 0x8000_000B,
    /// A UEFI variable with boot options, with its whole structure.
    EFI_VARIABLE_BOOT2 0x8000_000C,
    /// The hardware root of trust extended PCR 0.
    EFI_HCRTM_EVENT 0x8000_0010,
    /// The entry of a signature database that let an image run.
    EFI_VARIABLE_AUTHORITY 0x8000_00E0,
    /// Firmware of a device, measured over SPDM.
    EFI_SPDM_FIRMWARE_BLOB 0x8000_00E1,
    /// Configuration of a device, measured over SPDM.
    EFI_SPDM_FIRMWARE_CONFIG 0x8000_00E2,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}
