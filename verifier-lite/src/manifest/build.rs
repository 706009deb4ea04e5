//! Reference values of a finished root file system: every regular file, hashed.
//!
//! Symbolic links are not followed (the kernel measures what they lead to, under that path), other
//! file systems' mount points hold nothing of the image, and a hard-linked file is read once. Files
//! are streamed; memory grows with their number, not with their size.
//!
//! Trusted: the directory, for the time of the build. It *is* the reference.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use bstr::BString;
use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use super::{Exclusion, FileDigest, FileEntry, ManifestError};

/// Where a running system mounts file systems of the kernel's own. What a build left in them is
/// never seen on the device.
pub const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "run", "sys"];

/// Bytes read at a time, per thread. Larger does not hash faster.
const BUFFER: usize = 128 * 1024;

/// Told how far the work is; called from several threads at once.
pub trait Progress: Sync {
    /// So many files with so many bytes have to be read.
    fn start(&self, files: u64, bytes: u64);
    /// This many more bytes have been read.
    fn advance(&self, bytes: u64);
}

/// Nobody is watching.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Progress for Quiet {
    fn start(&self, _: u64, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Why a root file system could not be hashed. Nothing is skipped silently.
#[derive(Debug)]
pub enum BuildError {
    /// The root file system is no directory.
    NotADirectory(PathBuf),
    /// A file or directory could not be read.
    Unreadable(PathBuf, io::Error),
    /// A file changed its size while it was read.
    Changed(PathBuf),
    /// No regular file anywhere.
    Empty(PathBuf),
    /// An exclusion is no glob.
    Exclusion(ManifestError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADirectory(path) => write!(
                f,
                "{}: not a directory; give the root of the finished file system",
                path.display()
            ),
            Self::Unreadable(path, error) => write!(
                f,
                "{}: {error}; a manifest needs every file, so run as a user (or under fakeroot) \
                 that may read them all, or exclude it",
                path.display()
            ),
            Self::Changed(path) => write!(
                f,
                "{}: changed while it was read; is the image build still running?",
                path.display()
            ),
            Self::Empty(path) => write!(f, "{}: holds no regular file", path.display()),
            Self::Exclusion(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}

/// One inode: read once, whatever number of names it has.
struct Source {
    file: PathBuf,
    size: u64,
    names: Vec<BString>,
}

/// Hashes every regular file under `root`, except below [`MOUNT_POINTS`] and what `exclusions` match.
/// Paths come out absolute as the device will see them; order is left to
/// [`Manifest::new`](super::Manifest::new).
pub fn hash_rootfs(
    root: &Path,
    exclusions: &[String],
    progress: &dyn Progress,
) -> Result<Vec<FileEntry>, BuildError> {
    let exclusion = Exclusion::new(exclusions).map_err(BuildError::Exclusion)?;
    let sources = find(root, &exclusion)?;
    if sources.is_empty() {
        return Err(BuildError::Empty(root.to_owned()));
    }
    let bytes = sources.iter().map(|source| source.size).sum();
    progress.start(sources.len() as u64, bytes);
    let hashed: Vec<Result<FileDigest, BuildError>> = sources
        .par_iter()
        .map_init(
            || vec![0; BUFFER],
            |buffer, source| hash(source, buffer, progress),
        )
        .collect();
    let mut entries = Vec::with_capacity(sources.len());
    // In the order of the walk, so that of several bad files the same one is always named.
    for (source, digest) in sources.into_iter().zip(hashed) {
        let digests = vec![digest?];
        entries.extend(source.names.into_iter().map(|path| FileEntry {
            path,
            digests: digests.clone(),
        }));
    }
    Ok(entries)
}

fn find(root: &Path, exclusion: &Exclusion) -> Result<Vec<Source>, BuildError> {
    if !root.is_dir() {
        return Err(BuildError::NotADirectory(root.to_owned()));
    }
    let mut sources: Vec<Source> = Vec::new();
    let mut linked: HashMap<(u64, u64), usize> = HashMap::new();
    let walk = WalkDir::new(root)
        .follow_links(false)
        // `--rootfs` itself may be a link to the directory.
        .follow_root_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| !is_mount_point(entry));
    for entry in walk {
        let entry = entry.map_err(|error| unreadable(root, error))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path = device_path(root, entry.path());
        if exclusion.matches(&path).is_some() {
            continue;
        }
        let metadata = entry.metadata().map_err(|error| unreadable(root, error))?;
        let inode = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1
            && let Some(&known) = linked.get(&inode)
        {
            let source: &mut Source = &mut sources[known];
            source.names.push(path);
            continue;
        }
        if metadata.nlink() > 1 {
            linked.insert(inode, sources.len());
        }
        sources.push(Source {
            file: entry.into_path(),
            size: metadata.len(),
            names: vec![path],
        });
    }
    Ok(sources)
}

/// Whether this is `/proc` or the like. A *file* of that name is measured like any other.
fn is_mount_point(entry: &DirEntry) -> bool {
    entry.depth() == 1
        && entry.file_type().is_dir()
        && MOUNT_POINTS
            .iter()
            .any(|name| entry.file_name() == OsStr::new(name))
}

fn device_path(root: &Path, file: &Path) -> BString {
    let mut path = BString::from("/");
    // walkdir only yields what lies below its root.
    let inside = file.strip_prefix(root).unwrap_or(file);
    path.extend_from_slice(inside.as_os_str().as_bytes());
    path
}

fn unreadable(root: &Path, error: walkdir::Error) -> BuildError {
    let path = error.path().unwrap_or(root).to_owned();
    let error = error.into_io_error();
    BuildError::Unreadable(
        path,
        error.unwrap_or_else(|| io::Error::other("directory loop")),
    )
}

fn hash(
    source: &Source,
    buffer: &mut [u8],
    progress: &dyn Progress,
) -> Result<FileDigest, BuildError> {
    let unreadable = |error| BuildError::Unreadable(source.file.clone(), error);
    let mut file = File::open(&source.file).map_err(unreadable)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut length = 0u64;
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(read) => {
                context.update(&buffer[..read]);
                length += read as u64;
                progress.advance(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    if length != source.size {
        return Err(BuildError::Changed(source.file.clone()));
    }
    let mut digest = FileDigest([0; 32]);
    digest.0.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}
