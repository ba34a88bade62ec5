//! What the collector shows to a broker of the plant's own, and what it wants to see of it.

use crate::door::credentials::{CredentialsError, certificates, check_validity, content};
use crate::pki;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;
use time::OffsetDateTime;

/// The files of the collector's identity as a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// The authorities that sign the broker's certificate, PEM.
    pub ca: PathBuf,
    /// The collector's client certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM; readable by its owner alone.
    pub key: PathBuf,
}

impl Files {
    /// Reads the files anew, so that a renewed certificate is shown by the next connection.
    pub fn client_config(&self, server_name: &ServerName<'static>) -> Result<ClientConfig, CredentialsError> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.ca, &pki::read(&self.ca)?)? {
            roots.add(root).map_err(|error| content(&self.ca, error))?;
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| content(&self.ca, error))?;
        let chain = certificates(&self.certificate, &pki::read(&self.certificate)?)?;
        let key = PrivateKeyDer::from_pem_slice(&pki::read_private(&self.key)?)
            .map_err(|error| content(&self.key, format!("holds no private key in PEM: {error}")))?;
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| content(&self.certificate, error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NamedServerVerifier {
                inner,
                name: server_name.clone(),
            }))
            .with_client_auth_cert(chain, key)
            .map_err(|error| {
                let reason = format!("does not go with {}: {error}", self.key.display());
                content(&self.certificate, reason)
            })
    }

    /// Whether they go together and are in time.
    pub fn check(
        &self,
        server_name: &ServerName<'static>,
        now: OffsetDateTime,
    ) -> Result<(), CredentialsError> {
        self.client_config(server_name)?;
        for path in [&self.ca, &self.certificate] {
            check_validity(path, &pki::read(path)?, now)?;
        }
        Ok(())
    }
}

/// Checks the broker's certificate as always, but against the configured name and not the address
/// dialled: a broker may be reached by an address that stands in no certificate.
#[derive(Debug)]
struct NamedServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for NamedServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
