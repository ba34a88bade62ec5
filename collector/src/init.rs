//! A new plant: authority, server certificate, configuration and an example fleet file.

use crate::config;
use crate::pki::{self, PkiError};
use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use trunnion_common::id::Name;

/// The configuration's name in the plant's directory.
pub const CONFIG_FILE: &str = "collector.toml";

/// The fleet file's name in the plant's directory.
pub const FLEET_FILE: &str = "fleet.toml";

/// The configuration of mosquitto, when the plant has one.
pub const MOSQUITTO_CONF_FILE: &str = "mosquitto.conf";

/// Its access list.
pub const MOSQUITTO_ACL_FILE: &str = "mosquitto.acl";

/// The authority's directory within the plant's.
const AUTHORITY: &str = "pki";

/// What a plant is made from.
#[derive(Clone, Copy, Debug)]
pub struct Plant<'a> {
    /// Where everything goes.
    pub dir: &'a Path,
    /// The site's name.
    pub site: &'a Name,
    /// Names and addresses of the collector; the first one is what gateways dial.
    pub hosts: &'a [String],
    /// Where gateways connect.
    pub listen: SocketAddr,
    /// Where the API listens.
    pub http: SocketAddr,
    /// `host:port` of a broker of the plant's own, where gateways connect instead of the door.
    pub broker: Option<&'a str>,
}

/// Why a plant was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file or directory.
    #[error("cannot make {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is a plant already.
    #[error("{0} exists already: name another directory, or remove it to start anew")]
    Exists(PathBuf),
    /// What was asked for makes no valid configuration.
    #[error("{0}")]
    Unfit(String),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] PkiError),
}

impl Plant<'_> {
    /// Makes the plant and returns its configuration file. Changes nothing that is there already.
    pub fn make(&self, now: OffsetDateTime) -> Result<PathBuf, InitError> {
        let (config, fleet) = (self.dir.join(CONFIG_FILE), self.dir.join(FLEET_FILE));
        for path in [&config, &fleet] {
            if path.exists() {
                return Err(InitError::Exists(path.clone()));
            }
        }
        // Before anything is made: what `check-config` would refuse is not worth a certificate.
        let text = self.config();
        config::Config::parse(&text, &config).map_err(|problems| {
            let found = problems
                .iter()
                .map(|problem| format!("{}; {}", problem.what, problem.fix));
            InitError::Unfit(found.collect::<Vec<_>>().join("; "))
        })?;
        make_directory(self.dir)?;
        pki::init(&self.dir.join(AUTHORITY), self.site, self.hosts, now)?;
        if let Some(broker) = self.broker {
            pki::broker_client(&self.dir.join(AUTHORITY), self.site, now)?;
            self.make_broker_files(broker)?;
        }
        make_file(&fleet, &EXAMPLE_FLEET.replace("SITE", self.site.as_str()))?;
        make_file(&config, &text)?;
        Ok(config)
    }

    /// Configuration and access list of a mosquitto, with this plant's names and places in them.
    fn make_broker_files(&self, broker: &str) -> Result<(), InitError> {
        let dir = std::path::absolute(self.dir).map_err(|source| InitError::File {
            path: self.dir.to_owned(),
            source,
        })?;
        let port = broker.rsplit_once(':').map_or("8883", |(_, port)| port);
        let conf = MOSQUITTO_CONF
            .replace("@PACKET_MAX@", &crate::broker::PACKET_MAX.to_string())
            .replace("@PORT@", port)
            .replace("@PKI@", &dir.join(AUTHORITY).display().to_string())
            .replace("@DIR@", &dir.display().to_string());
        let acl = MOSQUITTO_ACL
            .replace("@SITE@", self.site.as_str())
            .replace("@COLLECTOR@", &pki::server_name(self.site));
        make_file(&self.dir.join(MOSQUITTO_CONF_FILE), &conf)?;
        make_file(&self.dir.join(MOSQUITTO_ACL_FILE), &acl)
    }

    fn config(&self) -> String {
        let mut text = format!(
            "# What each field means and its default: trunnion-collector check-config says what is wrong.\n\
             site = \"{site}\"\n\
             data_dir = \"data\"\n\
             fleet = \"{FLEET_FILE}\"\n\
             \n\
             [door]\n\
             listen = \"{listen}\"\n",
            site = self.site,
            listen = self.listen,
        );
        if let Some(broker) = self.broker {
            let _ = writeln!(text, "endpoint = \"{broker}\"");
        } else if let Some(host) = self.hosts.first().filter(|_| self.listen.port() != 0) {
            // A port drawn at the start is known only then: such gateways are given their endpoint by hand.
            let host = match host.parse::<std::net::Ipv6Addr>() {
                Ok(address) => format!("[{address}]"),
                Err(_) => host.clone(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "endpoint = \"{host}:{port}\"", port = self.listen.port());
        }
        let _ = write!(
            text,
            "certificate = \"{AUTHORITY}/server.crt\"\n\
             key = \"{AUTHORITY}/server.key\"\n\
             client_ca = \"{AUTHORITY}/ca.crt\"\n\
             crl = \"{AUTHORITY}/crl.pem\"\n\
             \n\
             [http]\n\
             listen = \"{http}\"\n",
            http = self.http,
        );
        if let Some(broker) = self.broker {
            let _ = write!(
                text,
                "\n[broker]\n\
                 kind = \"external\"\n\
                 address = \"{broker}\"\n\
                 server_name = \"{server_name}\"\n\
                 ca = \"{AUTHORITY}/ca.crt\"\n\
                 certificate = \"{AUTHORITY}/{certificate}\"\n\
                 key = \"{AUTHORITY}/{key}\"\n",
                server_name = pki::server_name(self.site),
                certificate = pki::CLIENT_CERTIFICATE,
                key = pki::CLIENT_KEY,
            );
        }
        text
    }
}

/// The plant holds the authority's key: nobody else looks into it.
fn make_directory(path: &Path) -> Result<(), InitError> {
    let cannot = |source| InitError::File {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(cannot)
}

fn make_file(path: &Path, text: &str) -> Result<(), InitError> {
    let cannot = |source| InitError::File {
        path: path.to_owned(),
        source,
    };
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path);
    let mut file = open.map_err(cannot)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(cannot)
}

/// One machine, complete, to be replaced by the plant's own; `SITE` stands for the site.
const EXAMPLE_FLEET: &str = include_str!("init/fleet.toml");

const MOSQUITTO_CONF: &str = include_str!("init/mosquitto.conf");

const MOSQUITTO_ACL: &str = include_str!("init/mosquitto.acl");
