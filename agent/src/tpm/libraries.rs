//! What the libraries under `tss-esapi` must be told before they are first used: tpm2-tss, not to write to
//! standard error; OpenSSL, which tpm2-tss hashes and encrypts with, to leave its error texts on disk.
//!
//! The only unsafe code of the agent, and only in builds with tpm2-tss.

use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;

use nix::unistd::execve;

/// To be called first in `main`. May start the process over, once.
pub fn prepare() {
    silence_tpm2_tss();
    leave_error_texts();
}

/// tpm2-tss writes to standard error on its own, unless `TSS2_LOG` tells it not to. A process
/// cannot safely change its own environment, so this one starts over with it. Returns only if that
/// was done already, or cannot be done.
fn silence_tpm2_tss() {
    const VARIABLE: &str = "TSS2_LOG";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    // By its own name, not /proc/self/exe, which would be what killall sees.
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    // None has a zero byte: they have all come from the kernel.
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let arguments: Vec<_> = std::env::args_os()
        .map(|argument| text(&argument))
        .collect();
    let mut environment: Vec<_> = std::env::vars_os()
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            text(&variable)
        })
        .collect();
    environment.push(text(OsStr::new("TSS2_LOG=all+none")));
    let Err(error) = execve(&text(program.as_os_str()), &arguments, &environment);
    log::debug!("starting over with {VARIABLE}: {error}");
}

/// Tells OpenSSL not to load its table of error texts, as it would when first used: 0.25 MB of this
/// process that nobody looks at, for tpm2-tss is silent. Errors keep their numbers. Nothing else of
/// OpenSSL changes, its configuration file included.
fn leave_error_texts() {
    const INIT: &CStr = c"OPENSSL_init_crypto";
    const NO_LOAD_CRYPTO_STRINGS: u64 = 1;
    type Init = unsafe extern "C" fn(u64, *const c_void) -> c_int;

    // SAFETY: a symbol is looked up in what is loaded; the name ends with a zero byte. By name at run
    // time, because tpm2-tss may be built with Mbed TLS, and then there is nothing to tell.
    #[allow(unsafe_code)]
    let init = unsafe { libc::dlsym(libc::RTLD_DEFAULT, INIT.as_ptr()) };
    if init.is_null() {
        return;
    }
    // SAFETY: whatever has this name is OpenSSL's function (openssl/crypto.h), with this signature
    // since 1.1.0. It may be called at any time, from any thread; a null pointer is for "no settings".
    #[allow(unsafe_code)]
    let told = unsafe {
        let init = std::mem::transmute::<*mut c_void, Init>(init);
        init(NO_LOAD_CRYPTO_STRINGS, std::ptr::null())
    };
    log::debug!("OpenSSL without error texts: {told}");
}

#[cfg(test)]
mod tests {
    use std::ffi::{c_char, c_ulong};

    use super::*;

    #[test]
    fn openssl_has_no_error_texts_afterwards() {
        type Last = unsafe extern "C" fn() -> c_ulong;
        type Text = unsafe extern "C" fn(c_ulong) -> *const c_char;

        // ERR_LIB_RSA in bits 23 to 30, and RSA_R_DATA_GREATER_THAN_MOD_LEN.
        const ERROR: c_ulong = 0x0200_006c;

        let function = |name: &CStr| {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            assert!(
                !function.is_null(),
                "tests need a tpm2-tss that is built with OpenSSL"
            );
            function
        };
        leave_error_texts();
        // SAFETY: the signatures are those of openssl/err.h. The first one loads the texts unless told
        // not to; the second one gives null or a text that is never freed.
        #[allow(unsafe_code)]
        let text = unsafe {
            std::mem::transmute::<*mut c_void, Last>(function(c"ERR_get_error"))();
            std::mem::transmute::<*mut c_void, Text>(function(c"ERR_reason_error_string"))(ERROR)
        };
        assert!(text.is_null());
    }
}
