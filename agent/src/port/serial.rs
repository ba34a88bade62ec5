//! A tty, real or pseudo, as a descriptor that never blocks.

use crate::config::PortConfig;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Why a port cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SerialError {
    #[error(
        "{path} cannot be opened: {source}; check the path, the cable, and that this user may use it (group dialout)"
    )]
    Open { path: PathBuf, source: io::Error },
    #[error("{path} is no serial line; name a tty, such as /dev/ttyUSB0")]
    NotATty { path: PathBuf },
    #[error("{path} is in use by another process; stop it, or list the port in one agent only")]
    InUse { path: PathBuf },
}

/// Opens the port and claims it.
///
/// The claim is a lock (`flock`), which ends with the process however that ends. The driver's own
/// exclusive flag would outlive a kill on a pseudo-terminal and lock out the successor, so that it is
/// taken back should anybody have set it. The serial library takes a shared lock of its own while it sets
/// the line up; ours is exclusive first, to see that nobody else has any, and shared from then on.
pub(super) fn open(port: &PortConfig) -> Result<OwnedFd, SerialError> {
    let path = port.path.clone();
    let failed = |source: io::Error| SerialError::Open {
        path: path.clone(),
        source,
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let claim = rustix::fs::open(&port.path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    if !rustix::termios::isatty(&claim) {
        return Err(SerialError::NotATty { path });
    }
    for operation in [
        FlockOperation::NonBlockingLockExclusive,
        FlockOperation::NonBlockingLockShared,
    ] {
        flock(&claim, operation).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => SerialError::InUse { path: path.clone() },
            error => failed(error.into()),
        })?;
    }
    // How the line is set up is the line's, and stays when the library closes its own descriptor.
    serialport::new(port.path.to_string_lossy(), port.baud)
        .exclusive(false)
        .open_native()
        .and_then(|mut line| line.set_exclusive(false))
        .map_err(|error| failed(error.into()))?;
    Ok(claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    fn port(path: PathBuf) -> PortConfig {
        PortConfig {
            path,
            baud: 921_600,
            wiring: Default::default(),
        }
    }

    #[tokio::test]
    async fn a_port_belongs_to_one_opener_until_it_is_dropped() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());

        let stream = open(&port(path.clone())).unwrap();
        let error = open(&port(path.clone())).unwrap_err();
        assert!(matches!(error, SerialError::InUse { .. }), "{error}");
        drop(stream);
        assert!(open(&port(path)).is_ok());
    }

    #[tokio::test]
    async fn what_is_no_serial_line_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("notes");
        std::fs::write(&file, "kept").unwrap();
        for path in [file.clone(), "/dev/null".into()] {
            let error = open(&port(path.clone())).unwrap_err();
            assert!(matches!(error, SerialError::NotATty { .. }), "{error}");
            assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(std::fs::read(file).unwrap(), b"kept");
        let error = open(&port(directory.path().into())).unwrap_err();
        assert!(error.to_string().contains("directory"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_port_is_named() {
        let error = open(&port("/dev/no-such-tty".into())).unwrap_err();
        assert!(
            error.to_string().starts_with("/dev/no-such-tty cannot be opened"),
            "{error}"
        );
    }
}
