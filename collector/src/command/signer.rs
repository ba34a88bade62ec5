//! The collector's signature under a command: that of its own certificate's key.

use crate::pki::{self, FileError};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use trunnion_common::id::GatewayId;
use trunnion_common::message::{self, CHAIN_MAX, Command, MESSAGE_MAX, SignedCommand, signed_parts};

/// Why a command cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// Certificate or key cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// They do not do.
    #[error("{}: {reason}; commands are signed with what the door shows to gateways", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Signs; a trait, so that simulations need no files.
pub trait Sign: std::fmt::Debug + Send {
    /// The message that carries a signed command.
    fn sign(&self, gateway: &GatewayId, command: &Command) -> Result<Vec<u8>, SignerError>;
}

/// Signs with the door's certificate and key. Both are read at each command, of which there are few, so
/// that a renewed certificate is used from the next command on.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM; readable by its owner alone.
    pub key: PathBuf,
}

/// In the order of preference.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
];

impl Sign for Signer {
    fn sign(&self, gateway: &GatewayId, command: &Command) -> Result<Vec<u8>, SignerError> {
        let content = |path: &Path| {
            let path = path.to_owned();
            move |reason: String| SignerError::Content { path, reason }
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pki::read(&self.certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|error| content(&self.certificate)(error.to_string()))?;
        let pem = pki::read_private(&self.key)?;
        let key =
            PrivateKeyDer::from_pem_slice(&pem).map_err(|error| content(&self.key)(error.to_string()))?;
        let key = any_supported_type(&key).map_err(|error| content(&self.key)(error.to_string()))?;
        let signer = key
            .choose_scheme(&SCHEMES)
            .ok_or_else(|| content(&self.key)("a key of a kind that signs no commands".into()))?;
        let command = postcard::to_stdvec(command).expect("numbers and bounded lists always encode");
        let signature = signer
            .sign(&signed_parts(gateway, &command).concat())
            .map_err(|error| content(&self.key)(error.to_string()))?;
        let signed = SignedCommand {
            command: &command,
            scheme: signer.scheme().into(),
            signature: &signature,
            chain: chain.iter().take(CHAIN_MAX).map(|der| &der[..]).collect(),
        };
        let mut room = vec![0; MESSAGE_MAX];
        let message = message::encode(&signed, &mut room)
            .ok_or_else(|| content(&self.certificate)("a chain too long for a message".into()))?;
        Ok(message.to_vec())
    }
}
