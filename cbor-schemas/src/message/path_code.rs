//! Paths in short: what they share with the path before, and a fixed table of pieces that file
//! systems of Linux are made of. A path of 54 bytes takes about 20.
//!
//! Neither side trusts the code for anything: what comes out is hashed and replayed like any other
//! claim. Both need the same table, so **it is append-only**.

/// Longest path that is coded.
pub(super) const MAX_CODED: usize = 255;

/// Code bytes 0x80 and up name the first 128 pieces, 0x01 to 0x1f the rest; 0x00 says that the next
/// byte stands for itself, as every printable ASCII character does without.
const PIECES: [&str; 159] = [
    "/usr/lib/x86_64-linux-gnu/",
    "/usr/lib/aarch64-linux-gnu/",
    "/usr/lib/arm-linux-gnueabihf/",
    "/usr/lib/systemd/system/",
    "/usr/lib/systemd/systemd-",
    "/usr/lib/systemd/",
    "/lib/modules/",
    "/usr/lib/modules/",
    "/kernel/drivers/",
    "/kernel/net/",
    "/kernel/fs/",
    "/kernel/crypto/",
    "/usr/local/bin/",
    "/usr/local/lib/",
    "/usr/local/",
    "/etc/init.d/",
    "/etc/systemd/system/",
    "/usr/lib/python3.",
    "/__pycache__/",
    ".cpython-3",
    ".pyc",
    "/site-packages/",
    "/dist-packages/",
    "/lib-dynload/",
    "/usr/libexec/",
    "/usr/sbin/",
    "/usr/bin/",
    "/usr/lib/",
    "/usr/share/",
    "/etc/",
    "/lib/",
    "/sbin/",
    "/bin/",
    "/var/lib/",
    "/opt/",
    "/lib/firmware/",
    "/usr/",
    ".so.",
    ".so",
    ".service",
    ".target",
    ".socket",
    ".timer",
    ".mount",
    ".ko.xz",
    ".ko",
    ".conf",
    ".py",
    ".pl",
    ".pm",
    ".sh",
    ".json",
    ".bin",
    "-linux-gnu",
    "/perl/5.",
    "/usr/share/perl/5.",
    "/usr/share/perl5/",
    "lib/",
    "systemd-",
    "systemd",
    "network",
    "generic",
    "system",
    "-daemon",
    "daemon",
    "update",
    "config",
    "manager",
    "device",
    "kernel",
    "common",
    "default",
    "module",
    "client",
    "server",
    "service",
    "core",
    "util",
    "test",
    "base",
    "data",
    "file",
    "s/",
    "linux",
    "python",
    "perl",
    "locale",
    "/LC_",
    "UTF-8",
    "utf8",
    "crypt",
    "ssl",
    "security",
    "pam_",
    "/usr/lib/udev/",
    "/etc/apt/apt.conf.d/",
    "/etc/ssh/",
    "apt-",
    "dpkg",
    "/File/",
    "/IO/",
    "/Encode/",
    "/Unicode/",
    "/Pod/",
    "/Net/",
    "/Text/",
    "/Time/",
    ".0.0",
    ".so.0.",
    ".so.1",
    ".so.2",
    ".so.3",
    ".1.",
    ".2",
    ".0",
    ".d/",
    "lib",
    "-lib",
    "/gconv/",
    "/net/",
    "usb",
    "/drm/",
    "ctl",
    "info",
    "name",
    "list",
    "path",
    "time",
    "load",
    "user",
    "group",
    "key",
    "sys",
    "log",
    "tion",
    "ation",
    "able",
    "ment",
    "ing",
    "er",
    "in",
    "on",
    "en",
    "al",
    "re",
    "st",
    "ti",
    "ar",
    "or",
    "te",
    "le",
    "at",
    "es",
    "is",
    "it",
    "/lib64/",
    "-yocto-standard/",
    "/usr/lib32/",
    "/home/",
];

const _: () = assert!(PIECES.len() <= 128 + 31);

/// The last path of a message; empty before the first.
#[derive(Clone, Debug)]
pub struct PreviousPath {
    bytes: [u8; MAX_CODED],
    len: usize,
}

impl Default for PreviousPath {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_CODED],
            len: 0,
        }
    }
}

impl PreviousPath {
    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Bytes that `path` has in common with it.
    pub(super) fn shared(&self, path: &[u8]) -> u8 {
        let common = self.get().iter().zip(path).take_while(|(a, b)| a == b);
        // At most MAX_CODED.
        common.count() as u8
    }

    pub(super) fn set(&mut self, path: &[u8]) {
        self.len = path.len().min(MAX_CODED);
        self.bytes[..self.len].copy_from_slice(&path[..self.len]);
    }

    /// Replaces all but the first `shared` bytes with what `code` stands for; `None` when that is
    /// nothing, too long, or shares more than there is.
    pub(super) fn follow(&mut self, shared: u8, code: &[u8]) -> Option<&[u8]> {
        let mut end = usize::from(shared);
        if end > self.len {
            return None;
        }
        let mut code = code.iter().copied();
        while let Some(byte) = code.next() {
            let literal;
            let piece = match byte {
                0 => {
                    literal = [code.next()?];
                    &literal[..]
                }
                0x20..=0x7f => {
                    literal = [byte];
                    &literal[..]
                }
                0x80.. => PIECES.get(usize::from(byte) - 0x80)?.as_bytes(),
                _ => PIECES.get(usize::from(byte) + 127)?.as_bytes(),
            };
            self.bytes
                .get_mut(end..end + piece.len())?
                .copy_from_slice(piece);
            end += piece.len();
        }
        self.len = end;
        (end > 0).then(|| self.get())
    }
}

/// Codes `path` into `out` and returns the length of the code, the shortest that there is; `None` when
/// path or code is too long.
pub(super) fn encode(path: &[u8], out: &mut [u8]) -> Option<usize> {
    // From the end on: how many bytes the rest takes, and the piece that it begins with.
    let mut rests = [(0_u16, None); MAX_CODED + 1];
    rests.get(path.len())?;
    for at in (0..path.len()).rev() {
        let rest = &path[at..];
        let bytes = 1 + u16::from(!is_literal(rest[0]));
        let mut best = (rests[at + 1].0 + bytes, None);
        for (index, piece) in PIECES.iter().enumerate() {
            if rest.starts_with(piece.as_bytes()) && rests[at + piece.len()].0 + 1 < best.0 {
                best = (rests[at + piece.len()].0 + 1, Some(index as u8));
            }
        }
        rests[at] = best;
    }
    let (mut at, mut len) = (0, 0);
    let mut put = |byte| {
        *out.get_mut(len)? = byte;
        len += 1;
        Some(())
    };
    while let Some(&byte) = path.get(at) {
        if let Some(index) = rests[at].1 {
            put(match index {
                0..128 => index + 0x80,
                _ => index - 127,
            })?;
            at += PIECES[usize::from(index)].len();
            continue;
        }
        if !is_literal(byte) {
            put(0)?;
        }
        put(byte)?;
        at += 1;
    }
    Some(len)
}

/// Whether a byte stands for itself.
fn is_literal(byte: u8) -> bool {
    (0x20..=0x7f).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(path: &[u8]) -> usize {
        let mut code = [0; 2 * MAX_CODED];
        let len = encode(path, &mut code).unwrap();
        let mut previous = PreviousPath::default();
        assert_eq!(previous.follow(0, &code[..len]), Some(path));
        len
    }

    #[test]
    fn every_piece_and_every_byte_survives() {
        for piece in PIECES {
            assert_eq!(round_trip(piece.as_bytes()), 1, "{piece}");
        }
        for byte in 0..=255 {
            round_trip(&[b'/', byte, b'x']);
        }
        assert_eq!(round_trip(b"/usr/lib/x86_64-linux-gnu/libz.so.1"), 4);
    }

    #[test]
    fn the_shortest_code_is_found_also_where_the_longest_piece_misleads() {
        // `config` begins later than `.conf`, and `.conf` leaves `ig-`.
        assert_eq!(round_trip(b".config-"), 3);
        assert_eq!(round_trip(b"/etc/init.d/"), 1);
    }

    #[test]
    fn a_path_that_is_too_long_is_not_coded() {
        let mut code = [0; 2 * MAX_CODED];
        assert_eq!(encode(&[b'x'; MAX_CODED], &mut code), Some(MAX_CODED));
        assert_eq!(encode(&[b'x'; MAX_CODED + 1], &mut code), None);
        assert_eq!(encode(b"xx", &mut code[..1]), None);
    }

    #[test]
    fn bad_codes_are_refused() {
        let mut previous = PreviousPath::default();
        for (shared, code) in [(1, &b"x"[..]), (0, b""), (0, b"x\0"), (0, &[b'x'; 256])] {
            assert_eq!(previous.follow(shared, code), None, "{shared} {code:02x?}");
            previous = PreviousPath::default();
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_survives(path in proptest::collection::vec(proptest::num::u8::ANY, 1..255)) {
            round_trip(&path);
        }
    }
}
