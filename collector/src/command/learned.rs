//! What was learned of fleets, on its way to a running collector: files in its data directory.
//!
//! Learning takes a minute and a table that the collector has no use for, so that it is done by the command; the
//! collector takes the file when a [`Request`](super::request::Request) names it, journals it, and needs it no
//! longer.

use crate::prognosis::fleet_life::{FleetLife, FleetLifeError, MODEL_BYTES_MAX};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use trunnion_common::id::Name;

/// Why a file is not kept or read.
#[derive(Debug, Error)]
pub enum LearnedError {
    /// The directory or file.
    #[error("{}: {source}; run this as the user of a collector that has run here before", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What stands in it.
    #[error(transparent)]
    Life(#[from] FleetLifeError),
}

/// Keeps what was learned under a name; what was kept under it before is gone. Returns its file.
pub fn keep(data_dir: &Path, name: &Name, life: &FleetLife) -> Result<PathBuf, LearnedError> {
    let bytes = life.to_bytes()?;
    if bytes.len() > MODEL_BYTES_MAX {
        return Err(FleetLifeError::Stored.into());
    }
    let path = path(data_dir, name);
    let aside = path.with_extension("new");
    let failed = |source| LearnedError::File {
        path: aside.clone(),
        source,
    };
    let directory = path.parent().unwrap_or(data_dir);
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome.map_err(failed)?,
    }
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&aside).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&aside, &path).map_err(failed)?;
    Ok(path)
}

/// The bytes of what was learned under a name, looked through.
pub fn read(data_dir: &Path, name: &Name) -> Result<Vec<u8>, LearnedError> {
    let path = path(data_dir, name);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| {
        // One more than may be tells a file that is too long.
        file.take(MODEL_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)
    });
    read.map_err(|source| LearnedError::File { path, source })?;
    FleetLife::from_bytes(&bytes)?;
    Ok(bytes)
}

fn path(data_dir: &Path, name: &Name) -> PathBuf {
    data_dir.join("learned").join(format!("{name}.life"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prognosis::fleet_life::tests::table;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::new("pumps").unwrap();
        assert!(matches!(read(dir.path(), &name), Err(LearnedError::File { .. })));
        let life = FleetLife::learn(table(12).as_bytes(), &[], 60.0).unwrap();
        let file = keep(dir.path(), &name, &life).unwrap();
        keep(dir.path(), &name, &life).unwrap();
        assert_eq!(read(dir.path(), &name).unwrap(), life.to_bytes().unwrap());
        fs::write(&file, b"pumps").unwrap();
        assert!(matches!(read(dir.path(), &name), Err(LearnedError::Life(_))));
    }
}
