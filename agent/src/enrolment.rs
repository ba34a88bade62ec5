//! The enrolment bundle: who this gateway is, and how it proves it.
//!
//! The collector's `gateway add` writes it; it holds a private key, so nobody but its owner may be able
//! to read it.

use crate::config::{Problem, Problems};
use crate::toml_section::{Section, parse};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use trunnion_common::id::{GatewayId, Name};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A checked bundle. Its key never appears in `Debug`.
#[derive(Clone)]
pub struct Enrolment {
    /// Who this gateway is, as its certificate says too.
    pub gateway: GatewayId,
    /// Where collectors answer, in order of preference.
    pub endpoints: Vec<Endpoint>,
    /// The certificates that may have signed the collector's.
    pub ca: Vec<CertificateDer<'static>>,
    /// This gateway's certificate and what links it to the CA.
    pub certificate: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("gateway", &self.gateway)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// Where a collector answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Host name or address to connect to.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The name that the collector's certificate must bear.
    pub server_name: ServerName<'static>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Most bytes of a bundle: three PEM blocks are far below it.
const BUNDLE_BYTES_MAX: u64 = 256 * 1_024;

impl Enrolment {
    /// Reads and checks the bundle at `path`.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let unreadable = |error: std::io::Error| {
            Problem::of_file(
                path,
                format!("cannot be read: {error}"),
                "name the bundle that `trunnion-collector gateway add` wrote",
            )
        };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Problem::of_file(
                path,
                format!("mode {mode:04o} lets others than its owner at the private key in it"),
                format!("run `chmod 600 {}`", path.display()),
            )
            .into());
        }
        let mut text = String::new();
        file.take(BUNDLE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        Self::read(path, &text)
    }

    fn read(path: &Path, text: &str) -> Result<Self, Problems> {
        const WRITE_AGAIN: &str = "have `trunnion-collector gateway add` write the bundle again";
        let mut problems = Problems::default();
        let table = parse(path, text, &mut problems);
        let mut section = Section::new(path, text, table.get_ref(), table.span());

        let site = name(&mut section, "site", &mut problems);
        let gateway = name(&mut section, "gateway", &mut problems);
        let server_name = section.string("server_name", &mut problems);
        let endpoints = endpoints(&mut section, server_name, &mut problems);
        let mut pem =
            |key: &'static str, problems: &mut Problems| section.required_string(key, WRITE_AGAIN, problems);
        let ca = pem("ca", &mut problems);
        let certificate = pem("certificate", &mut problems);
        let key = pem("key", &mut problems);

        let ca = ca.map(|(pem, span)| certificates(&section, "ca", pem, span, &mut problems));
        let own = certificate.clone();
        let certificate =
            certificate.map(|(pem, span)| certificates(&section, "certificate", pem, span, &mut problems));
        let key = key.and_then(|(pem, span)| {
            PrivateKeyDer::from_pem_slice(pem.as_bytes())
                .map_err(|error| {
                    problems.push(section.problem(
                        span,
                        format!("key holds no private key: {error}"),
                        WRITE_AGAIN,
                    ));
                })
                .ok()
        });
        if let (Some(site), Some(gateway), Some(chain), Some((_, span))) =
            (&site, &gateway, &certificate, own)
            && let Some(leaf) = chain.first()
        {
            let expected = GatewayId {
                site: site.clone(),
                gateway: gateway.clone(),
            };
            if identity(leaf).as_ref() != Some(&expected) {
                problems.push(section.problem(
                    span,
                    format!(
                        "the certificate does not name the gateway {expected} (urn:trunnion:SITE:GATEWAY)"
                    ),
                    WRITE_AGAIN,
                ));
            }
        }
        section.refuse_the_rest(&mut problems);
        match (problems.is_empty(), site, gateway, ca, certificate, key) {
            (true, Some(site), Some(gateway), Some(ca), Some(certificate), Some(key)) => Ok(Self {
                gateway: GatewayId { site, gateway },
                endpoints,
                ca,
                certificate,
                key: Arc::new(key),
            }),
            _ => Err(problems),
        }
    }
}

fn name(section: &mut Section<'_>, key: &'static str, problems: &mut Problems) -> Option<Name> {
    let (text, span) = section.required_string(key, "write the name given at enrolment", problems)?;
    Name::new(text)
        .map_err(|_| {
            problems.push(section.problem(
                span,
                format!("{key} = \"{text}\" is no name"),
                "use 1 to 32 of a-z, 0-9 and -",
            ));
        })
        .ok()
}

fn endpoints(
    section: &mut Section<'_>,
    server_name: Option<(&str, Range<usize>)>,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let missing = !section.has("endpoints");
    let written = section.strings("endpoints", problems);
    if missing || (written.is_empty() && problems.is_empty()) {
        problems.push(section.problem(
            section.span(),
            "`endpoints` is missing or empty".to_owned(),
            "write endpoints = [\"HOST:PORT\"] with the collector's address",
        ));
    }
    let mut endpoints = Vec::new();
    for (text, span) in written {
        let parts = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse().ok().filter(|&port| port > 0)?;
            (!host.is_empty()).then(|| (host.to_owned(), port))
        });
        let Some((host, port)) = parts else {
            problems.push(section.problem(
                span,
                format!("\"{text}\" is no endpoint"),
                "write HOST:PORT, for example \"10.0.0.5:8883\"",
            ));
            continue;
        };
        let (name, name_span) = server_name.clone().unwrap_or((&host, span));
        match ServerName::try_from(name.to_owned()) {
            Ok(server_name) => endpoints.push(Endpoint {
                host,
                port,
                server_name,
            }),
            Err(_) => problems.push(section.problem(
                name_span,
                format!("\"{name}\" is neither a host name nor an address"),
                "write the name in the collector's certificate",
            )),
        }
    }
    endpoints
}

fn certificates(
    section: &Section<'_>,
    key: &str,
    pem: &str,
    span: Range<usize>,
    problems: &mut Problems,
) -> Vec<CertificateDer<'static>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => {
            problems.push(section.problem(
                span,
                format!("{key} holds no certificate"),
                "paste it with its BEGIN CERTIFICATE and END CERTIFICATE lines",
            ));
            Vec::new()
        }
        Err(error) => {
            problems.push(section.problem(
                span,
                format!("{key} is broken: {error}"),
                "paste it again, whole",
            ));
            Vec::new()
        }
    }
}

/// The gateway that a certificate names.
fn identity(certificate: &CertificateDer<'_>) -> Option<GatewayId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => GatewayId::from_urn(uri).ok(),
        _ => None,
    })
}
