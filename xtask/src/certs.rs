//! A development authority, a server certificate and one gateway's bundle, by the product's own commands.

use anyhow::{Context, Result};
use std::path::Path;
use trunnion_tests::plant::{GATEWAY, Plant};

/// The fleet is not what this is about: a site without machines.
const FLEET: &str = "[[site]]\nid = \"plant\"\n";

/// Makes them in `dir`, for a collector on this machine.
pub(crate) fn make(dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir)?;
    let plant = Plant::found(&dir, FLEET).with_context(|| format!("no certificates in {}", dir.display()))?;
    let collector = plant.collector_dir();
    for (what, path) in [
        ("authority", collector.join("pki/ca.crt")),
        ("server certificate", collector.join("pki/server.crt")),
        ("revocation list", collector.join("pki/crl.pem")),
        ("gateway's bundle", plant.bundle(GATEWAY)),
        ("configuration", collector.join("collector.toml")),
    ] {
        println!("    {what:<20} {}", path.display());
    }
    Ok(())
}
