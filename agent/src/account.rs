//! Giving up root once the TPM and the measurement list are open.
//!
//! Reads `/etc/passwd` and `/etc/group` itself: a static program has no name service, and a device that
//! keeps its service accounts on the network would wait for it here. Trusted: those two files.

use std::fs;
use std::io::{self, ErrorKind};

use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Whom to become.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    user: u32,
    group: u32,
    /// All its groups; that of `/dev/tpmrm0` should be one, or a lost TPM cannot be opened again.
    groups: Vec<u32>,
}

/// Becomes the user of that name for good, in all threads.
///
/// # Errors
/// When there is no such user, or this process may not become it. Then it is still who it was, or less.
pub fn become_user(name: &str) -> io::Result<()> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let account = find(name, &passwd, &group).ok_or_else(|| {
        io::Error::new(
            ErrorKind::NotFound,
            format!("no user {name} in /etc/passwd"),
        )
    })?;
    let (user, group) = (Uid::from_raw(account.user), Gid::from_raw(account.group));
    let groups: Vec<Gid> = account.groups.into_iter().map(Gid::from_raw).collect();
    // Groups first: afterwards we may no longer.
    setgroups(&groups)?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    set_no_new_privs()?;
    Ok(())
}

/// `name:password:uid:gid:...` in one file, `name:password:gid:member,member` in the other.
fn find(name: &str, passwd: &str, group: &str) -> Option<Account> {
    let fields = |line: &str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let user = passwd
        .lines()
        .map(fields)
        .find(|fields| fields[0] == name && fields.len() > 3)?;
    let (user, primary) = (user[2].parse().ok()?, user[3].parse().ok()?);
    let mut groups = vec![primary];
    for fields in group.lines().map(fields) {
        let [_, _, id, members] = fields.as_slice() else {
            continue;
        };
        match id.parse() {
            Ok(id) if id != primary && members.split(',').any(|member| member == name) => {
                groups.push(id);
            }
            _ => {}
        }
    }
    Some(Account {
        user,
        group: primary,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_all_its_groups() {
        let passwd = "root:x:0:0::/root:/bin/sh\nmote:x:990:991::/:/sbin/nologin\nbad:x:1\n";
        let group = "root:x:0:\nmote:x:991:\ntss:x:112:tss,mote\nother:x:5:motel\nbad:x:y:mote\n";
        let mote = Account {
            user: 990,
            group: 991,
            groups: vec![991, 112],
        };
        assert_eq!(find("mote", passwd, group), Some(mote));
        assert_eq!(find("bad", passwd, group), None);
        assert_eq!(find("nobody", passwd, group), None);
        assert_eq!(find("", passwd, group), None);
    }

    #[test]
    fn nobody_becomes_who_does_not_exist() {
        let error = become_user("no-such-user-of-mote").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("no-such-user-of-mote"));
    }
}
