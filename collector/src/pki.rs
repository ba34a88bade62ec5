//! The plant's own certificate authority: server and gateway certificates, revocation.
//!
//! One directory holds it: `ca.crt`, `ca.key`, `server.crt`, `server.key`, `crl.pem`, and
//! `issued.toml`, the register from which the revocation list is made anew at each revocation. The
//! door follows `server.*`, `ca.crt` and `crl.pem` by itself, so nothing here needs a restart.
//!
//! Times are arguments: every certificate is valid from [`BACKDATE`] before `now`.

mod file;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use trunnion_common::id::{GatewayId, Name};

pub use file::FileError;
pub(crate) use file::{read, read_private};

/// The authority outlives the machines it serves; replacing it means visiting every gateway.
pub const CA_VALIDITY: Duration = Duration::days(20 * 365);
/// Server certificates are renewed in place, without a restart and without touching a gateway.
pub const SERVER_VALIDITY: Duration = Duration::days(2 * 365);
/// Gateway certificates need a visit or a rotation, so they last a maintenance cycle.
pub const GATEWAY_VALIDITY: Duration = Duration::days(3 * 365);
/// When a revocation list says that its successor is due. The door keeps using an overdue list, since
/// a plant must not stop for paperwork; other readers may not.
pub const CRL_VALIDITY: Duration = Duration::days(365);
/// How far a gateway's clock may be behind the collector's and still find its certificate valid.
pub const BACKDATE: Duration = Duration::hours(1);

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// The server's certificate within the authority's directory.
pub const SERVER_CERTIFICATE: &str = "server.crt";
/// The server's key within the authority's directory.
pub const SERVER_KEY: &str = "server.key";
/// The certificate that the collector shows to a broker of the plant's own.
pub const CLIENT_CERTIFICATE: &str = "collector.crt";
/// Its key.
pub const CLIENT_KEY: &str = "collector.key";
const CRL: &str = "crl.pem";
const REGISTER: &str = "issued.toml";

/// Everything that can be wrong with the authority, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The register was edited or damaged.
    #[error("{path}: not a register of issued certificates: {reason}; restore it from a backup")]
    Register {
        /// The register.
        path: String,
        /// What is wrong in it.
        reason: String,
    },
    /// The directory belongs to another site.
    #[error(
        "the authority in {directory} is of site {found}, not {wanted}; name that site or another directory"
    )]
    Site {
        /// The authority's directory.
        directory: String,
        /// The site that it serves.
        found: Name,
        /// The site that was asked for.
        wanted: Name,
    },
    /// The gateway has a valid certificate already.
    #[error("{0} has a certificate already: renew it to rotate, revoke it to replace a lost gateway")]
    Enrolled(GatewayId),
    /// The gateway has no certificate that could be renewed or revoked.
    #[error("{0} has no valid certificate: add the gateway first")]
    NotEnrolled(GatewayId),
    /// A host name or the authority's own files cannot be made into a certificate.
    #[error("{what}: {source}")]
    Certificate {
        /// What was being made or read.
        what: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// The system has no random numbers to give.
    #[error("no random number for a serial: {0}")]
    Random(getrandom::Error),
}

/// What a gateway needs to reach the collector; it holds the gateway's private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The site.
    pub site: Name,
    /// The gateway's name within it.
    pub gateway: Name,
    /// `host:port` of the collectors, tried in this order.
    pub endpoints: Vec<String>,
    /// The name to expect in the server's certificate, whatever address it was reached by.
    pub server_name: String,
    /// The authority's certificate, PEM.
    pub ca: String,
    /// The gateway's certificate, PEM.
    pub certificate: String,
    /// The gateway's private key, PEM.
    pub key: String,
}

impl Bundle {
    /// As the text of an enrolment bundle.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("strings and lists of strings always have a TOML form")
    }

    /// Writes the bundle to a new file that only its owner may read.
    pub fn write(&self, path: &Path) -> Result<(), PkiError> {
        Ok(file::create(path, self.to_toml().as_bytes(), file::PRIVATE)?)
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("site", &self.site)
            .field("gateway", &self.gateway)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// The name in every server certificate of the site, which gateways expect.
pub fn server_name(site: &Name) -> String {
    format!("collector.{site}")
}

/// Makes the authority of `site`, an empty revocation list and the first server certificate, which
/// answers to [`server_name`] and to `host_names` (names or addresses).
pub fn init(dir: &Path, site: &Name, host_names: &[String], now: OffsetDateTime) -> Result<(), PkiError> {
    file::create_private_directory(dir)?;
    let _lock = file::lock(dir)?;
    for name in [
        CA_CERTIFICATE,
        CA_KEY,
        SERVER_CERTIFICATE,
        SERVER_KEY,
        CRL,
        REGISTER,
    ] {
        let path = dir.join(name);
        if path.exists() {
            return Err(FileError::Exists { path }.into());
        }
    }
    let mut params = params(&format!("Trunnion CA of {site}"), now, CA_VALIDITY)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(certificate("the authority's key"))?;
    let ca = params
        .self_signed(&key)
        .map_err(certificate("the authority's certificate"))?;
    let authority = Authority {
        key_pem: key.serialize_pem(),
        certificate_pem: ca.pem(),
        issuer: Issuer::new(params, key),
    };
    let mut register = Register {
        site: site.clone(),
        host_names: host_names.to_vec(),
        certificate: Vec::new(),
    };
    let server = authority.server(&mut register, now)?;
    let crl = authority.crl(&register, now)?;
    file::create(&dir.join(CRL), crl.as_bytes(), file::PUBLIC)?;
    file::create(
        &dir.join(SERVER_CERTIFICATE),
        server.certificate.as_bytes(),
        file::PUBLIC,
    )?;
    file::create(&dir.join(SERVER_KEY), server.key.as_bytes(), file::PRIVATE)?;
    register.save(dir)?;
    file::create(
        &dir.join(CA_CERTIFICATE),
        authority.certificate_pem.as_bytes(),
        file::PUBLIC,
    )?;
    file::create(&dir.join(CA_KEY), authority.key_pem.as_bytes(), file::PRIVATE)?;
    Ok(())
}

/// Enrols a new gateway. One that holds a valid certificate is refused, so that a name typed twice
/// does not give two machines one identity.
pub fn gateway_add(
    dir: &Path,
    site: &Name,
    gateway: &Name,
    endpoints: &[String],
    now: OffsetDateTime,
) -> Result<Bundle, PkiError> {
    issue(dir, site, gateway, endpoints, now, |enrolled, gateway| {
        if enrolled {
            Err(PkiError::Enrolled(gateway))
        } else {
            Ok(())
        }
    })
}

/// Gives an enrolled gateway its next certificate; the one it has stays valid until it expires.
pub fn gateway_renew(
    dir: &Path,
    site: &Name,
    gateway: &Name,
    endpoints: &[String],
    now: OffsetDateTime,
) -> Result<Bundle, PkiError> {
    issue(dir, site, gateway, endpoints, now, |enrolled, gateway| {
        if enrolled {
            Ok(())
        } else {
            Err(PkiError::NotEnrolled(gateway))
        }
    })
}

/// Revokes every valid certificate of a gateway and makes the revocation list anew; the door cuts its
/// live session when it sees the list. Returns how many certificates were revoked.
pub fn gateway_revoke(
    dir: &Path,
    site: &Name,
    gateway: &Name,
    now: OffsetDateTime,
) -> Result<usize, PkiError> {
    let _lock = file::lock(dir)?;
    let mut register = Register::load(dir, site)?;
    let authority = Authority::load(dir)?;
    let id = GatewayId {
        site: site.clone(),
        gateway: gateway.clone(),
    };
    let subject = urn(&id);
    let mut revoked = 0;
    for issued in register
        .certificate
        .iter_mut()
        .filter(|issued| issued.is_valid_for(&subject, now))
    {
        issued.revoked = Some(now);
        revoked += 1;
    }
    if revoked == 0 {
        return Err(PkiError::NotEnrolled(id));
    }
    // The register first: were the list lost, the next revocation would still carry this one.
    register.save(dir)?;
    let crl = authority.crl(&register, now)?;
    file::replace(&dir.join(CRL), crl.as_bytes(), file::PUBLIC)?;
    Ok(revoked)
}

/// Renews the server's certificate and key under the same names; the door takes them up by itself.
pub fn server_renew(dir: &Path, site: &Name, now: OffsetDateTime) -> Result<(), PkiError> {
    let _lock = file::lock(dir)?;
    let mut register = Register::load(dir, site)?;
    let server = Authority::load(dir)?.server(&mut register, now)?;
    register.save(dir)?;
    // Between these two the door sees a pair that does not match and keeps the old one.
    file::replace(&dir.join(SERVER_KEY), server.key.as_bytes(), file::PRIVATE)?;
    file::replace(
        &dir.join(SERVER_CERTIFICATE),
        server.certificate.as_bytes(),
        file::PUBLIC,
    )?;
    Ok(())
}

/// Makes or renews the certificate that the collector shows to a broker of the plant's own, and the
/// revocation list, which a broker may refuse to use once it is overdue.
///
/// Its common name is [`server_name`], which is no gateway's; it names no gateway, so that no door takes
/// it for one.
pub fn broker_client(dir: &Path, site: &Name, now: OffsetDateTime) -> Result<(), PkiError> {
    let _lock = file::lock(dir)?;
    let mut register = Register::load(dir, site)?;
    let authority = Authority::load(dir)?;
    let params = params(&server_name(site), now, SERVER_VALIDITY)?;
    let client = authority.sign(
        &mut register,
        "collector",
        params,
        ExtendedKeyUsagePurpose::ClientAuth,
    )?;
    register.save(dir)?;
    let crl = authority.crl(&register, now)?;
    file::replace(&dir.join(CRL), crl.as_bytes(), file::PUBLIC)?;
    // Between these two they do not match: a connection made just then is made again.
    file::replace(&dir.join(CLIENT_KEY), client.key.as_bytes(), file::PRIVATE)?;
    file::replace(
        &dir.join(CLIENT_CERTIFICATE),
        client.certificate.as_bytes(),
        file::PUBLIC,
    )?;
    Ok(())
}

fn issue(
    dir: &Path,
    site: &Name,
    gateway: &Name,
    endpoints: &[String],
    now: OffsetDateTime,
    allow: impl FnOnce(bool, GatewayId) -> Result<(), PkiError>,
) -> Result<Bundle, PkiError> {
    let _lock = file::lock(dir)?;
    let mut register = Register::load(dir, site)?;
    let id = GatewayId {
        site: site.clone(),
        gateway: gateway.clone(),
    };
    let subject = urn(&id);
    let enrolled = register
        .certificate
        .iter()
        .any(|issued| issued.is_valid_for(&subject, now));
    allow(enrolled, id)?;
    let authority = Authority::load(dir)?;
    let signed = authority.gateway(&mut register, gateway, &subject, now)?;
    // Registered before it is handed out: a certificate nobody knows of could not be revoked.
    register.save(dir)?;
    Ok(Bundle {
        site: site.clone(),
        gateway: gateway.clone(),
        endpoints: endpoints.to_vec(),
        server_name: server_name(site),
        ca: authority.certificate_pem,
        certificate: signed.certificate,
        key: signed.key,
    })
}

/// The signing half, in memory for one command.
struct Authority {
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn load(dir: &Path) -> Result<Self, PkiError> {
        let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE), dir.join(CA_KEY));
        let certificate_pem = String::from_utf8_lossy(&file::read(&certificate_path)?).into_owned();
        let key_pem = String::from_utf8_lossy(&file::read_private(&key_path)?).into_owned();
        let key = KeyPair::from_pem(&key_pem).map_err(certificate(key_path.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(certificate(certificate_path.display()))?;
        Ok(Self {
            certificate_pem,
            key_pem,
            issuer,
        })
    }

    fn server(&self, register: &mut Register, now: OffsetDateTime) -> Result<Signed, PkiError> {
        let name = server_name(&register.site);
        let mut params = params(&name, now, SERVER_VALIDITY)?;
        let mut hosts = vec![name];
        hosts.extend(register.host_names.iter().cloned());
        hosts.dedup();
        params.subject_alt_names = CertificateParams::new(hosts)
            .map_err(certificate(format!("the host names {:?}", register.host_names)))?
            .subject_alt_names;
        self.sign(register, "server", params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The door reads the name from the URN; brokers read the common name, where mosquitto's access list
    /// can use it as a level of a topic.
    fn gateway(
        &self,
        register: &mut Register,
        name: &Name,
        urn: &str,
        now: OffsetDateTime,
    ) -> Result<Signed, PkiError> {
        let mut params = params(name.as_str(), now, GATEWAY_VALIDITY)?;
        let uri = urn.try_into().map_err(certificate("the gateway's name"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        self.sign(register, urn, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        register: &mut Register,
        subject: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Signed, PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(certificate(subject))?;
        let signed = params
            .signed_by(&key, &self.issuer)
            .map_err(certificate(subject))?;
        let serial = params
            .serial_number
            .expect("params() always draws a serial number");
        register.certificate.push(Issued {
            serial: serial
                .to_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            subject: subject.to_owned(),
            not_after: params.not_after,
            revoked: None,
        });
        Ok(Signed {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        })
    }

    fn crl(&self, register: &Register, now: OffsetDateTime) -> Result<String, PkiError> {
        let revoked_certs = register
            .certificate
            .iter()
            .filter_map(|issued| {
                Some(RevokedCertParams {
                    revocation_time: issued.revoked?,
                    serial_number: SerialNumber::from_slice(&issued.serial_bytes()?),
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect();
        let this_update = now - BACKDATE;
        CertificateRevocationListParams {
            this_update,
            next_update: this_update + CRL_VALIDITY,
            // Grows with time, as RFC 5280, 5.2.3 asks, without a counter that could be lost.
            crl_number: SerialNumber::from(now.unix_timestamp().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .and_then(|crl| crl.pem())
        .map_err(certificate("the revocation list"))
    }
}

/// What was issued and what became of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    site: Name,
    host_names: Vec<String>,
    #[serde(default)]
    certificate: Vec<Issued>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    /// Hexadecimal.
    serial: String,
    /// `server`, `collector`, or the gateway's URN.
    subject: String,
    #[serde(with = "rfc3339")]
    not_after: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339_option")]
    revoked: Option<OffsetDateTime>,
}

impl Register {
    fn load(dir: &Path, site: &Name) -> Result<Self, PkiError> {
        let path = dir.join(REGISTER);
        let text = String::from_utf8_lossy(&file::read_private(&path)?).into_owned();
        let broken = |reason: String| PkiError::Register {
            path: path.display().to_string(),
            reason,
        };
        let register: Self = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
        // Checked here, since a revocation that could not be read would silently not happen.
        if let Some(issued) = register
            .certificate
            .iter()
            .find(|issued| issued.serial_bytes().is_none())
        {
            return Err(broken(format!("serial {:?} is not hexadecimal", issued.serial)));
        }
        if register.site != *site {
            return Err(PkiError::Site {
                directory: dir.display().to_string(),
                found: register.site,
                wanted: site.clone(),
            });
        }
        Ok(register)
    }

    fn save(&self, dir: &Path) -> Result<(), PkiError> {
        let text = toml::to_string_pretty(self).expect("strings, lists and tables have a TOML form");
        Ok(file::replace(
            &dir.join(REGISTER),
            text.as_bytes(),
            file::PRIVATE,
        )?)
    }
}

impl Issued {
    fn is_valid_for(&self, subject: &str, now: OffsetDateTime) -> bool {
        self.subject == subject && self.revoked.is_none() && now < self.not_after
    }

    fn serial_bytes(&self) -> Option<Vec<u8>> {
        let digits = self.serial.as_bytes();
        if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    }
}

fn urn(gateway: &GatewayId) -> String {
    let mut urn = String::new();
    gateway
        .write_urn(&mut urn)
        .expect("writing to a String cannot fail");
    urn
}

fn params(name: &str, now: OffsetDateTime, validity: Duration) -> Result<CertificateParams, PkiError> {
    // 127 random bits and no sign: unique without a counter, within the 20 octets of RFC 5280, 4.1.2.2.
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(PkiError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = now - BACKDATE;
    params.not_after = now + validity;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn certificate(what: impl ToString) -> impl FnOnce(rcgen::Error) -> PkiError {
    move |source| PkiError::Certificate {
        what: what.to_string(),
        source,
    }
}

mod rfc3339 {
    use super::{OffsetDateTime, Rfc3339};
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.format(&Rfc3339).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        OffsetDateTime::parse(&String::deserialize(deserializer)?, &Rfc3339).map_err(de::Error::custom)
    }
}

mod rfc3339_option {
    use super::OffsetDateTime;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        at: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::rfc3339::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        super::rfc3339::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use time::macros::datetime;
    use x509_parser::pem::parse_x509_pem;
    use x509_parser::prelude::{FromDer, GeneralName};

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn authority() -> (tempfile::TempDir, std::path::PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("pki");
        init(
            &dir,
            &name("plant"),
            &["localhost".into(), "127.0.0.1".into()],
            NOW,
        )
        .unwrap();
        (root, dir)
    }

    fn add(dir: &Path, gateway: &str) -> Result<Bundle, PkiError> {
        gateway_add(
            dir,
            &name("plant"),
            &name(gateway),
            &["127.0.0.1:8883".into()],
            NOW,
        )
    }

    #[test]
    fn keys_are_private_and_nothing_is_overwritten() {
        let (_root, dir) = authority();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for private in [CA_KEY, SERVER_KEY, REGISTER] {
            assert_eq!(mode(&dir.join(private)), 0o600, "{private}");
        }
        let before = std::fs::read(dir.join(CA_KEY)).unwrap();
        let again = init(&dir, &name("plant"), &[], NOW).unwrap_err();
        assert!(
            matches!(again, PkiError::File(FileError::Exists { .. })),
            "{again}"
        );
        assert_eq!(std::fs::read(dir.join(CA_KEY)).unwrap(), before);
    }

    #[test]
    fn a_gateway_certificate_carries_its_urn_its_usage_and_the_validity_promised() {
        let (_root, dir) = authority();
        let bundle = add(&dir, "gw-1").unwrap();
        let (_, pem) = parse_x509_pem(bundle.certificate.as_bytes()).unwrap();
        let x509 = pem.parse_x509().unwrap();
        let san = x509.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            san.value.general_names,
            [GeneralName::URI("urn:trunnion:plant:gw-1")]
        );
        let common_name = x509.subject().iter_common_name().next().unwrap();
        assert_eq!(common_name.as_str().unwrap(), "gw-1", "a level of a topic");
        let usage = x509.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(
            x509.validity().not_before.timestamp(),
            (NOW - BACKDATE).unix_timestamp()
        );
        assert_eq!(
            x509.validity().not_after.timestamp(),
            (NOW + GATEWAY_VALIDITY).unix_timestamp()
        );
        assert_eq!(bundle.server_name, "collector.plant");
        assert!(!format!("{bundle:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_collectors_own_certificate_names_no_gateway_and_is_renewed_in_place() {
        let (_root, dir) = authority();
        let mut keys = Vec::new();
        for _ in 0..2 {
            broker_client(&dir, &name("plant"), NOW).unwrap();
            keys.push(read_private(&dir.join(CLIENT_KEY)).unwrap());
            let (_, pem) = parse_x509_pem(&read(&dir.join(CLIENT_CERTIFICATE)).unwrap()).unwrap();
            let x509 = pem.parse_x509().unwrap();
            assert!(x509.subject_alternative_name().unwrap().is_none());
            let common_name = x509.subject().iter_common_name().next().unwrap();
            assert!(
                Name::new(common_name.as_str().unwrap()).is_err(),
                "no gateway can have it"
            );
            let usage = x509.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.client_auth && !usage.server_auth);
        }
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn a_bundle_is_a_private_file_that_reads_back() {
        let (root, dir) = authority();
        let bundle = add(&dir, "gw-1").unwrap();
        let path = root.path().join("gw-1.toml");
        bundle.write(&path).unwrap();
        let text = String::from_utf8(read_private(&path).unwrap()).unwrap();
        assert_eq!(toml::from_str::<Bundle>(&text).unwrap(), bundle);
        assert!(bundle.write(&path).is_err());
    }

    #[test]
    fn one_name_is_enrolled_once_until_it_is_revoked() {
        let (_root, dir) = authority();
        let (plant, gateway) = (name("plant"), name("gw-1"));
        let renew = || gateway_renew(&dir, &plant, &gateway, &[], NOW);
        assert!(matches!(renew(), Err(PkiError::NotEnrolled(_))));
        add(&dir, "gw-1").unwrap();
        assert!(matches!(add(&dir, "gw-1"), Err(PkiError::Enrolled(_))));
        renew().unwrap();
        assert_eq!(gateway_revoke(&dir, &plant, &gateway, NOW).unwrap(), 2);
        assert!(matches!(
            gateway_revoke(&dir, &plant, &gateway, NOW),
            Err(PkiError::NotEnrolled(_))
        ));
        add(&dir, "gw-1").unwrap();
    }

    #[test]
    fn the_revocation_list_holds_exactly_the_revoked_serials() {
        let (_root, dir) = authority();
        let serial = |bundle: &Bundle| {
            let (_, pem) = parse_x509_pem(bundle.certificate.as_bytes()).unwrap();
            pem.parse_x509().unwrap().tbs_certificate.serial.clone()
        };
        let mut revoked = Vec::new();
        for gateway in ["gw-1", "gw-2", "gw-3"] {
            let bundle = add(&dir, gateway).unwrap();
            if gateway != "gw-2" {
                gateway_revoke(&dir, &name("plant"), &name(gateway), NOW).unwrap();
                revoked.push(serial(&bundle));
            }
        }
        let (_, pem) = parse_x509_pem(&std::fs::read(dir.join(CRL)).unwrap()).unwrap();
        let (_, crl) =
            x509_parser::revocation_list::CertificateRevocationList::from_der(&pem.contents).unwrap();
        let listed: Vec<_> = crl
            .iter_revoked_certificates()
            .map(|entry| entry.serial().clone())
            .collect();
        assert_eq!(listed, revoked);
    }

    #[test]
    fn renewing_the_server_keeps_its_names_and_changes_its_key() {
        let (_root, dir) = authority();
        let names = || {
            let (_, pem) = parse_x509_pem(&std::fs::read(dir.join(SERVER_CERTIFICATE)).unwrap()).unwrap();
            let x509 = pem.parse_x509().unwrap();
            format!(
                "{:?}",
                x509.subject_alternative_name()
                    .unwrap()
                    .unwrap()
                    .value
                    .general_names
            )
        };
        let (before, key) = (names(), std::fs::read(dir.join(SERVER_KEY)).unwrap());
        assert!(
            before.contains("collector.plant") && before.contains("localhost"),
            "{before}"
        );
        server_renew(&dir, &name("plant"), NOW + Duration::days(600)).unwrap();
        assert_eq!(names(), before);
        assert_ne!(std::fs::read(dir.join(SERVER_KEY)).unwrap(), key);
    }

    #[test]
    fn another_site_an_exposed_key_and_a_damaged_register_are_refused_by_name() {
        let (_root, dir) = authority();
        let other = gateway_add(&dir, &name("other"), &name("gw-1"), &[], NOW).unwrap_err();
        assert!(matches!(other, PkiError::Site { .. }), "{other}");
        let key = dir.join(CA_KEY);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let exposed = add(&dir, "gw-1").unwrap_err().to_string();
        assert!(
            exposed.contains("ca.key") && exposed.contains("chmod 600"),
            "{exposed}"
        );
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let register = dir.join(REGISTER);
        let damaged = std::fs::read_to_string(&register)
            .unwrap()
            .replacen("serial = \"", "serial = \"x", 1);
        std::fs::write(&register, damaged).unwrap();
        let message = add(&dir, "gw-1").unwrap_err().to_string();
        assert!(
            message.contains("issued.toml") && message.contains("hexadecimal"),
            "{message}"
        );
    }
}
