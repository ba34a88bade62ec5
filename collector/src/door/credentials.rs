//! The door's certificate, key, authorities and revocation list: read, checked together, followed.

use super::refusal::Refusal;
use crate::pki::{self, FileError};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why certificate, key, authorities and revocation list do not make a door.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read, or others can read the key.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds something else.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl CredentialsError {
    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(error) => error.path(),
            Self::Content { path, .. } => path,
        }
    }
}

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: PathBuf,
    pub(crate) crl: Option<PathBuf>,
}

/// What the files said when they were read. Compared as a whole: contents tell a change that time
/// stamps, with their granularity and their copies, do not.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
    crl: Option<Vec<u8>>,
}

impl Files {
    pub(crate) fn read(&self) -> Result<Contents, CredentialsError> {
        Ok(Contents {
            certificate: pki::read(&self.certificate)?,
            key: pki::read_private(&self.key)?,
            client_ca: pki::read(&self.client_ca)?,
            crl: self.crl.as_deref().map(pki::read).transpose()?,
        })
    }

    pub(crate) fn build(&self, contents: &Contents) -> Result<Credentials, CredentialsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.client_ca, &contents.client_ca)? {
            roots.add(root).map_err(|error| content(&self.client_ca, error))?;
        }
        let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if let (Some(path), Some(crl)) = (&self.crl, &contents.crl) {
            let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(crl)
                .collect::<Result<_, _>>()
                .map_err(|error| content(path, error))?;
            if lists.is_empty() {
                return Err(content(
                    path,
                    "holds no revocation list in PEM; make one, or leave `crl` out",
                ));
            }
            verifier = verifier.with_crls(lists);
        }
        let lists = self.crl.as_deref().unwrap_or(&self.client_ca);
        let verifier = verifier.build().map_err(|error| content(lists, error))?;
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| content(&self.key, format!("holds no private key in PEM: {error}")))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| content(&self.certificate, error))?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(chain, key)
            .map_err(|error| {
                content(
                    &self.certificate,
                    format!("does not go with {}: {error}", self.key.display()),
                )
            })?;
        // A resumed session would not show its certificate again, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Credentials {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            verifier,
        })
    }

    /// Whether they make a door, and the server's certificate and the authorities' are in time.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<(), CredentialsError> {
        let contents = self.read()?;
        self.build(&contents)?;
        for (path, pem) in [
            (&self.certificate, &contents.certificate),
            (&self.client_ca, &contents.client_ca),
        ] {
            check_validity(path, pem, now)?;
        }
        Ok(())
    }

    /// Reads the files again every `interval` and when asked to, and announces what has changed. Bad
    /// files are logged and change nothing.
    pub(crate) async fn follow(
        self,
        mut seen: Contents,
        interval: Duration,
        asked: Arc<Notify>,
        announce: watch::Sender<Arc<Credentials>>,
    ) {
        let files = Arc::new(self);
        let mut complaint = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = asked.notified() => {}
            }
            let reader = files.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || reader.read()).await else {
                return;
            };
            let built = match read {
                Ok(contents) if contents == seen => {
                    complaint = None;
                    continue;
                }
                Ok(contents) => files.build(&contents).map(|built| (contents, built)),
                Err(error) => Err(error),
            };
            match built {
                Ok((contents, credentials)) => {
                    seen = contents;
                    complaint = None;
                    announce.send_replace(Arc::new(credentials));
                    tracing::info!("the door has taken up new certificates");
                }
                Err(error) => {
                    // Once per finding, not once per reading.
                    let message = error.to_string();
                    if complaint.as_ref() != Some(&message) {
                        tracing::error!(error = %message, "the door keeps its old certificates: the new ones are bad");
                        complaint = Some(message);
                    }
                }
            }
        }
    }
}

/// What a handshake needs.
pub(crate) struct Credentials {
    pub(crate) acceptor: TlsAcceptor,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Credentials {
    /// Judges the certificate of a client that is already connected.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Refusal> {
        let (certificate, intermediates) = chain
            .split_first()
            .ok_or_else(|| Refusal::tls(&rustls::Error::NoCertificatesPresented))?;
        match self.verifier.verify_client_cert(certificate, intermediates, now) {
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::tls(&error)),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// All certificates of a PEM file; at least one.
pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| content(path, error))?;
    if certificates.is_empty() {
        return Err(content(path, "holds no certificate in PEM"));
    }
    Ok(certificates)
}

/// Whether every certificate of a PEM file is in time.
pub(crate) fn check_validity(path: &Path, pem: &[u8], now: OffsetDateTime) -> Result<(), CredentialsError> {
    for certificate in certificates(path, pem)? {
        let (_, x509) = X509Certificate::from_der(&certificate).map_err(|error| content(path, error))?;
        let validity = x509.validity();
        let (from, to) = (validity.not_before, validity.not_after);
        if to.timestamp() < now.unix_timestamp() {
            return Err(content(path, format!("the certificate expired at {to}")));
        }
        if from.timestamp() > now.unix_timestamp() {
            let reason = format!("the certificate is not valid before {from}; is the clock right?");
            return Err(content(path, reason));
        }
    }
    Ok(())
}

/// A file's content is not what it should be.
pub(crate) fn content(path: &Path, reason: impl ToString) -> CredentialsError {
    CredentialsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
