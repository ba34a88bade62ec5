//! The peer: two of Debian's mosquitto, one bridging a backlog to the other over mutual TLS.
//!
//! It promises less: nothing is synced to a disk on either side, and the backlog lies in memory.

use crate::plant::{GATEWAY, Plant, free_port};
use crate::process::{Process, await_some};
use anyhow::{Context, Result, bail};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Longest message taken: a block with room to spare.
const PACKET_MAX: usize = 1 << 20;

/// Messages without acknowledgement: enough that the brokers and not these clients set the pace.
const INFLIGHT_MAX: u16 = 100;

/// How long the brokers may do nothing before they count as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the program lies, if it is installed.
pub fn program() -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    // Debian's place for daemons, which is not on everybody's path.
    std::env::split_paths(&dirs)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join("mosquitto"))
        .find(|path| path.is_file())
}

/// Megabytes per second through the bridge, from the first message at the far subscriber to the last.
/// The certificates are those of a founded plant.
pub async fn bridge_mb_s(program: &Path, plant: &Plant, blocks: &[Vec<u8>]) -> Result<f64> {
    let dir = plant.dir().join("mosquitto");
    std::fs::create_dir_all(&dir)?;
    let far = Broker::far(program, plant, &dir)?;
    // The subscription outlives the broker's restart, so that no message comes before it.
    let process = far.start()?;
    let (client, mut events) = connect("far", far.port, false);
    client.subscribe("#", QoS::AtLeastOnce).await?;
    await_packet(&mut events, |packet| matches!(packet, Packet::SubAck(_))).await?;
    drop(events);
    process.stop(PATIENCE)?;

    let near = Broker::near(program, plant, &dir, far.tls_port)?;
    let near_process = near.start()?;
    publish_all(near.port, blocks).await?;

    let far_process = far.start()?;
    let (_client, mut events) = connect("far", far.port, false);
    let (mut first, mut received, mut bytes) = (None, 0, 0);
    while received < blocks.len() {
        let payload = await_publish(&mut events).await?;
        let began = *first.get_or_insert_with(now);
        received += 1;
        bytes += payload;
        if received == blocks.len() {
            let speed = bytes as f64 / 1e6 / began.elapsed().as_secs_f64();
            near_process.stop(PATIENCE)?;
            far_process.stop(PATIENCE)?;
            return Ok(speed);
        }
    }
    bail!("there was nothing to send")
}

/// A broker's program, configuration and ports.
struct Broker {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    port: u16,
    tls_port: u16,
}

impl Broker {
    fn far(program: &Path, plant: &Plant, dir: &Path) -> Result<Self> {
        let (port, tls_port) = (free_port()?, free_port()?);
        let pki = plant.collector_dir().join("pki");
        let text = format!(
            "persistence true\npersistence_location {}/\nmax_queued_messages 0\nallow_anonymous true\n\
             listener {port} 127.0.0.1\nlistener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
             require_certificate true\n",
            dir.display(),
            pki.join("ca.crt").display(),
            pki.join("server.crt").display(),
            pki.join("server.key").display(),
        );
        Self::write(program, dir, "far", text, (port, tls_port))
    }

    fn near(program: &Path, plant: &Plant, dir: &Path, far: u16) -> Result<Self> {
        let port = free_port()?;
        let bundle: toml::Table = std::fs::read_to_string(plant.bundle(GATEWAY))?.parse()?;
        let mut files = Vec::new();
        for key in ["ca", "certificate", "key"] {
            let pem = bundle[key].as_str().context("a bundle holds PEM")?;
            let path = dir.join(format!("{key}.pem"));
            std::fs::write(&path, pem)?;
            files.push(path.display().to_string());
        }
        let text = format!(
            "persistence false\nmax_queued_messages 0\nallow_anonymous true\nlistener {port} 127.0.0.1\n\
             connection up\naddress localhost:{far}\ntopic # out 1\ncleansession false\nnotifications false\n\
             try_private false\nrestart_timeout 1\nbridge_cafile {}\nbridge_certfile {}\nbridge_keyfile {}\n",
            files[0], files[1], files[2],
        );
        Self::write(program, dir, "near", text, (port, far))
    }

    fn write(
        program: &Path,
        dir: &Path,
        name: &str,
        text: String,
        (port, tls_port): (u16, u16),
    ) -> Result<Self> {
        let config = dir.join(format!("{name}.conf"));
        // Started by root it would become a user who may not read the plant's keys.
        std::fs::write(&config, text + "user root\n")?;
        Ok(Self {
            program: program.to_owned(),
            config,
            log: dir.join(format!("{name}.log")),
            port,
            tls_port,
        })
    }

    fn start(&self) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&self.config);
        let process = Process::start("mosquitto", command, &self.log)?;
        let listens = || TcpStream::connect(("127.0.0.1", self.port)).ok();
        await_some(PATIENCE, listens)
            .with_context(|| format!("mosquitto does not listen; its log:\n{}", process.log()))?;
        Ok(process)
    }
}

fn connect(id: &str, port: u16, clean: bool) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options
        .set_clean_session(clean)
        .set_inflight(INFLIGHT_MAX)
        .set_max_packet_size(PACKET_MAX, PACKET_MAX);
    AsyncClient::new(options, usize::from(INFLIGHT_MAX))
}

/// Hands every block to the near broker and waits until it has acknowledged them.
async fn publish_all(port: u16, blocks: &[Vec<u8>]) -> Result<()> {
    let (client, mut events) = connect("near", port, true);
    let publishing = async {
        for block in blocks {
            client
                .publish("backlog", QoS::AtLeastOnce, false, block.clone())
                .await?;
        }
        anyhow::Ok(())
    };
    let acknowledging = async {
        for _ in blocks {
            await_packet(&mut events, |packet| matches!(packet, Packet::PubAck(_))).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publishing, acknowledging)?;
    Ok(())
}

async fn await_packet(events: &mut EventLoop, wanted: impl Fn(&Packet) -> bool) -> Result<Packet> {
    loop {
        let event = timeout(PATIENCE, events.poll())
            .await
            .context("mosquitto is silent")??;
        if let Event::Incoming(packet) = event
            && wanted(&packet)
        {
            return Ok(packet);
        }
    }
}

/// Bytes of the next message.
async fn await_publish(events: &mut EventLoop) -> Result<usize> {
    match await_packet(events, |packet| matches!(packet, Packet::Publish(_))).await? {
        Packet::Publish(message) => Ok(message.payload.len()),
        other => bail!("asked for a message, got {other:?}"),
    }
}

#[allow(clippy::disallowed_methods, reason = "measures how long real processes take")]
fn now() -> Instant {
    Instant::now()
}
