//! Files of a certificate authority: private ones stay private, and none is ever half written.

use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of keys and of everything else that only the owner may read.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of certificates.
pub(crate) const PUBLIC: u32 = 0o644;

/// What is wrong with a file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being attempted.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is there and must not be overwritten.
    #[error("{}: exists already and is never overwritten; move it away first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A private key that others can read is no longer private.
    #[error("{}: mode {mode:04o} lets others read this private key; run `chmod 600 {}`, and replace the key if anybody might have read it", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::Exists { path } | Self::Exposed { path, .. } => path,
        }
    }

    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

/// Reads a file that anybody may read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(FileError::io(path, "read"))
}

/// Reads a private file; one that its group or others may touch is refused.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut file = File::open(path).map_err(FileError::io(path, "read"))?;
    // The opened file is judged, not the path, so that what is checked is what is read.
    let metadata = file.metadata().map_err(FileError::io(path, "read"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut content = Vec::new();
    io::Read::read_to_end(&mut file, &mut content).map_err(FileError::io(path, "read"))?;
    Ok(content)
}

/// Makes a directory that only its owner may enter, unless it exists.
pub(crate) fn create_private_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::io(path, "create"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(FileError::io(path, "protect"))
}

/// Holds off every other change to the directory until it is dropped.
pub(crate) fn lock(directory: &Path) -> Result<File, FileError> {
    let file = File::open(directory).map_err(FileError::io(directory, "open"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| FileError::io(directory, "lock")(error.into()))?;
    Ok(file)
}

/// Writes a file that must not exist yet.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists {
                path: path.to_owned(),
            },
            _ => FileError::io(path, "create")(source),
        })?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(FileError::io(path, "write"))
}

/// Replaces a file as a whole: a reader sees the old content or the new, also after a power cut.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let draft = PathBuf::from(draft);
    // A draft left by an interrupted run holds nothing that anybody was promised.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::io(&draft, "remove")(error));
        }
        _ => {}
    }
    create(&draft, content, mode)?;
    fs::rename(&draft, path).map_err(FileError::io(path, "replace"))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::io(directory, "flush"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_read_only_while_it_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        create(&path, b"secret", PRIVATE).unwrap();
        assert_eq!(read_private(&path).unwrap(), b"secret");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let message = read_private(&path).unwrap_err().to_string();
            assert!(
                message.contains("a.key") && message.contains("chmod 600"),
                "{message}"
            );
            assert!(message.contains(&format!("{mode:04o}")), "{message}");
        }
    }

    #[test]
    fn replacing_keeps_the_mode_asked_for_and_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.key");
        fs::write(directory.path().join("a.key.draft"), b"half").unwrap();
        for content in [b"one", b"two"] {
            replace(&path, content, PRIVATE).unwrap();
            assert_eq!(read_private(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(matches!(
            create(&path, b"three", PRIVATE),
            Err(FileError::Exists { .. })
        ));
    }
}
