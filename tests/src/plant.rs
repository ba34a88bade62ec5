//! A plant on loopback: the collector, one gateway and its nodes as real processes over real TLS, in a
//! directory of their own and on free ports.

use crate::host_node::Motor;
use crate::process::{Process, await_some};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::f64::consts::{SQRT_2, TAU};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use crate::process::run;
pub use crate::workspace::binary;

/// How long a process may take to start, on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a process may take to stop cleanly.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The site that every plant of the tests is.
pub const SITE: &str = "plant";

/// Its gateway.
pub const GATEWAY: &str = "gw-1";

/// Who takes what gateways send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Broker {
    /// The collector itself.
    #[default]
    Embedded,
    /// A mosquitto as its distribution ships it.
    Mosquitto,
}

/// How a plant's gateways reach its collector.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// Who takes what they send.
    pub broker: Broker,
    /// The port that they dial, when something stands between: a [proxy](crate::proxy), say.
    pub dialled: Option<u16>,
}

/// A founded plant: certificates, configuration and whatever of it is running.
#[derive(Debug)]
pub struct Plant {
    dir: PathBuf,
    way: Way,
    door_port: u16,
    agent_port: u16,
    http: Option<String>,
    /// The mosquitto, when there is one and it runs.
    pub broker: Option<Process>,
    /// The collector, when it runs.
    pub collector: Option<Process>,
    /// The gateway's agent, when it runs.
    pub agent: Option<Process>,
    /// The nodes that were started, in that order.
    pub nodes: Vec<Process>,
}

/// A node to start.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its id, sixteen hexadecimal digits.
    pub id: String,
    /// What its sensor feels.
    pub source: Source,
    /// Sample rate, Hz.
    pub rate_hz: f64,
    /// Full scale, g.
    pub range_g: f32,
    /// When the first sample is taken, Unix milliseconds.
    pub start_at_ms: u64,
}

impl NodeSpec {
    /// A node of 16 g at 12,000 samples a second, whose machine vibrates with so many mm/s RMS at each of these
    /// whole numbers of hertz: a second of it, to be played over and over, in a file of that name.
    pub fn vibrating(dir: &Path, id: &str, name: &str, lines: &[(f64, f64)]) -> Result<Self> {
        const RATE_HZ: f64 = 12_000.0;
        let line = |n: u32, (velocity, hz): &(f64, f64)| {
            let height = SQRT_2 * velocity * 1e-3 * TAU * hz / 9.806_65;
            height * (TAU * hz * f64::from(n) / RATE_HZ).sin()
        };
        let sample = |n: u32| lines.iter().map(|of| line(n, of)).sum::<f64>() as f32;
        let bytes: Vec<u8> = (0..RATE_HZ as u32)
            .flat_map(|n| sample(n).to_le_bytes())
            .collect();
        let samples = dir.join(name);
        std::fs::write(&samples, bytes)?;
        Ok(Self {
            id: id.to_owned(),
            source: Source::Recording(samples),
            rate_hz: RATE_HZ,
            range_g: 16.0,
            start_at_ms: 0,
        })
    }
}

/// The thermometer that reads this file feels so many degrees from now on.
pub fn warm(file: &Path, degrees: f32) -> Result<()> {
    let written = file.with_extension("new");
    std::fs::write(&written, degrees.to_string())?;
    Ok(std::fs::rename(&written, file)?)
}

/// What a node's sensor feels.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file of little-endian f32, in g.
    Recording(PathBuf),
    /// A simulated motor.
    Motor(Motor),
}

/// The measurement point of every machine of the tests.
pub const POINT: &str = "drive-end";

/// Its one channel.
pub const CHANNEL: &str = "v";

/// What a plant knows of a machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Asset id.
    pub asset: String,
    /// The node on it, whose channel 0 is the vibration at the drive end.
    pub node: String,
    /// Shaft speed.
    pub rpm: f64,
    /// The bearing's designation, when it is known.
    pub bearing: Option<String>,
    /// Full scale of the sensor, g.
    pub range_g: f32,
    /// Upper edge of the sensor's usable band, Hz.
    pub band_high_hz: f64,
}

/// The fleet file of a plant with these machines.
pub fn fleet_text(machines: &[Machine]) -> String {
    let mut text = format!("[[site]]\nid = \"{SITE}\"\n\n[[site.area]]\nid = \"hall-1\"\n");
    for machine in machines {
        let Machine {
            asset,
            node,
            rpm,
            bearing,
            range_g,
            band_high_hz,
        } = machine;
        text += &format!("\n[[site.area.asset]]\nid = \"{asset}\"\n");
        text += &format!("\n[[site.area.asset.shaft]]\nid = \"shaft\"\nrpm = {rpm:?}\n");
        if let Some(designation) = bearing {
            let bearing = format!("id = \"bearing\"\ndesignation = \"{designation}\"\n");
            text += &format!("\n[[site.area.asset.shaft.bearing]]\n{bearing}");
        }
        text += &format!("\n[[site.area.asset.point]]\nid = \"{POINT}\"\nshaft = \"shaft\"\n");
        if bearing.is_some() {
            text += "bearing = \"bearing\"\n";
        }
        text += &format!(
            "\n[[site.area.asset.point.channel]]\nid = \"{CHANNEL}\"\nnode = \"{node}\"\nchannel = 0\n\
             quantity = \"acceleration\"\nunit = \"g\"\naxis = \"+v\"\nrange = {range_g:?}\n\
             band_hz = [1.0, {band_high_hz:?}]\n"
        );
    }
    text
}

impl Plant {
    /// Makes certificates, configuration and an enrolled gateway in `dir`, through the product's own commands.
    pub fn found(dir: &Path, fleet: &str) -> Result<Self> {
        Self::found_with(dir, fleet, Way::default())
    }

    /// As [`Plant::found`], with this way from gateways to collector.
    pub fn found_with(dir: &Path, fleet: &str, way: Way) -> Result<Self> {
        std::fs::create_dir_all(dir.join("lines"))?;
        let door_port = free_port()?;
        let plant = Self {
            dir: dir.to_owned(),
            way,
            door_port,
            agent_port: free_port()?,
            http: None,
            broker: None,
            collector: None,
            agent: None,
            nodes: Vec::new(),
        };
        let listen = format!("127.0.0.1:{door_port}");
        let collector = plant.collector_dir();
        let mut init = Command::new(binary("trunnion-collector")?);
        init.args([
            "init",
            "--site",
            SITE,
            "--host",
            "localhost",
            "--listen",
            &listen,
            "--dir",
        ])
        .arg(&collector);
        if way.broker == Broker::Mosquitto {
            init.args(["--broker", &format!("localhost:{door_port}")]);
        }
        run(&mut init)?;
        if way.broker == Broker::Mosquitto {
            plant.tame_mosquitto()?;
        }
        std::fs::write(collector.join("fleet.toml"), fleet)?;
        plant.edit_collector_config(|config| {
            set(config, "http", "listen", "127.0.0.1:0");
        })?;
        plant.add_gateway(GATEWAY)?;
        Ok(plant)
    }

    /// Where everything of this plant lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The collector's directory.
    pub fn collector_dir(&self) -> PathBuf {
        self.dir.join("collector")
    }

    /// The port of the collector's door, or of the broker in its place.
    pub fn door_port(&self) -> u16 {
        self.door_port
    }

    /// The enrolment bundle of a gateway.
    pub fn bundle(&self, gateway: &str) -> PathBuf {
        self.dir.join(format!("{gateway}.toml"))
    }

    /// Enrols a gateway.
    pub fn add_gateway(&self, gateway: &str) -> Result<PathBuf> {
        let bundle = self.bundle(gateway);
        run(Command::new(binary("trunnion-collector")?)
            .args([
                "gateway",
                "add",
                gateway,
                "--endpoint",
                &format!("localhost:{}", self.way.dialled.unwrap_or(self.door_port)),
                "--config",
            ])
            .arg(self.collector_dir().join("collector.toml"))
            .arg("--out")
            .arg(&bundle))?;
        Ok(bundle)
    }

    /// Changes the collector's configuration file.
    pub fn edit_collector_config(&self, edit: impl FnOnce(&mut toml::Table)) -> Result<()> {
        let path = self.collector_dir().join("collector.toml");
        let mut config: toml::Table = std::fs::read_to_string(&path)?.parse()?;
        edit(&mut config);
        std::fs::write(&path, toml::to_string(&config)?)?;
        Ok(())
    }

    /// What a test changes in the product's configuration of mosquitto: no other machine may reach it, and
    /// it may read this directory.
    fn tame_mosquitto(&self) -> Result<()> {
        let path = self.mosquitto_conf();
        let listener = format!("listener {}", self.door_port);
        let text = std::fs::read_to_string(&path)?.replace(&listener, &format!("{listener} 127.0.0.1"));
        std::fs::write(&path, text + "user root\n").context("mosquitto's configuration")
    }

    fn mosquitto_conf(&self) -> PathBuf {
        self.collector_dir().join("mosquitto.conf")
    }

    /// Starts the mosquitto and waits until it listens.
    pub fn start_broker(&mut self) -> Result<()> {
        let program = crate::bench::mosquitto::program().context("mosquitto is not installed")?;
        let mut command = Command::new(program);
        command.arg("-c").arg(self.mosquitto_conf());
        let process = Process::start("mosquitto", command, &self.dir.join("mosquitto.log"))?;
        let listens = || std::net::TcpStream::connect(("127.0.0.1", self.door_port)).ok();
        await_some(START_LIMIT, listens)
            .with_context(|| format!("mosquitto does not listen; its log:\n{}", process.log()))?;
        self.broker = Some(process);
        Ok(())
    }

    /// SIGKILL to the mosquitto, then a new one that knows nothing of the first.
    pub fn kill_and_restart_broker(&mut self) -> Result<()> {
        self.broker.take().context("mosquitto is not running")?.kill()?;
        self.start_broker()
    }

    /// Starts the collector and waits until it is ready.
    pub fn start_collector(&mut self) -> Result<()> {
        self.launch_collector()?;
        self.await_collector()
    }

    /// Starts the collector and does not wait for it.
    pub fn launch_collector(&mut self) -> Result<()> {
        let mut command = Command::new(binary("trunnion-collector")?);
        command
            .args(["run", "--config"])
            .arg(self.collector_dir().join("collector.toml"));
        self.collector = Some(Process::start(
            "collector",
            command,
            &self.dir.join("collector.log"),
        )?);
        Ok(())
    }

    /// Waits until a collector that was launched is ready.
    pub fn await_collector(&mut self) -> Result<()> {
        let process = self.collector.as_mut().context("the collector is not running")?;
        let ready = process.await_line(START_LIMIT, |line| {
            serde_json::from_str::<Value>(line)
                .ok()
                .filter(|event| event["event"] == "ready")
        })?;
        let http = ready["http"]
            .as_str()
            .context("the collector says where its API is")?;
        // Drawn once, kept afterwards: who watches the page sees it again after a restart.
        self.edit_collector_config(|config| set(config, "http", "listen", http))?;
        self.http = Some(http.to_owned());
        Ok(())
    }

    /// Starts the gateway's agent over the lines of these nodes.
    pub fn start_agent(&mut self, nodes: &[NodeSpec]) -> Result<()> {
        self.start_agent_with(nodes, |_| {})
    }

    /// As [`Plant::start_agent`], with a configuration that was changed.
    pub fn start_agent_with(
        &mut self,
        nodes: &[NodeSpec],
        edit: impl FnOnce(&mut toml::Table),
    ) -> Result<()> {
        let config = self.write_agent_config("agent", self.agent_port, nodes, edit)?;
        let mut command = Command::new(binary("trunnion-agent")?);
        command.args(["run", "--config"]).arg(config);
        self.agent = Some(Process::start("agent", command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// As [`Plant::start_agent`], with the line called `name` alone, which several nodes share.
    pub fn start_agent_on_wires(&mut self, name: &str, baud: u32) -> Result<()> {
        let path = path_value(&self.line(name));
        self.start_agent_with(&[], |config| {
            let mut shared = toml::Table::new();
            shared.insert("path".to_owned(), path);
            shared.insert("baud".to_owned(), i64::from(baud).into());
            shared.insert("kind".to_owned(), "rs485".into());
            config.insert("port".to_owned(), vec![toml::Value::Table(shared)].into());
        })
    }

    /// Starts another agent under the gateway's own certificate, over the lines of these nodes: a mistake
    /// that plants make when they copy a gateway.
    pub fn start_twin(&self, nodes: &[NodeSpec]) -> Result<Process> {
        let config = self.write_agent_config("twin", free_port()?, nodes, |_| {})?;
        let mut command = Command::new(binary("trunnion-agent")?);
        command.args(["run", "--config"]).arg(config);
        Process::start("twin", command, &self.dir.join("twin.log"))
    }

    fn write_agent_config(
        &self,
        name: &str,
        metrics_port: u16,
        nodes: &[NodeSpec],
        edit: impl FnOnce(&mut toml::Table),
    ) -> Result<PathBuf> {
        let mut config = toml::Table::new();
        config.insert("enrolment".into(), path_value(&self.bundle(GATEWAY)));
        config.insert("state_dir".into(), path_value(&self.dir.join(name)));
        let metrics = format!("127.0.0.1:{metrics_port}");
        config.insert("metrics_listen".into(), metrics.into());
        let ports = nodes.iter().map(|node| {
            let mut port = toml::Table::new();
            port.insert("path".into(), path_value(&self.line(&node.id)));
            port.insert("baud".into(), toml::Value::Integer(921_600));
            toml::Value::Table(port)
        });
        config.insert("port".into(), toml::Value::Array(ports.collect()));
        edit(&mut config);
        let path = self.dir.join(format!("{name}.toml"));
        std::fs::write(&path, toml::to_string(&config)?)?;
        Ok(path)
    }

    /// The serial line of a node, or one that nodes share, as the agent opens it.
    pub fn line(&self, node: &str) -> PathBuf {
        self.dir.join("lines").join(node)
    }

    /// Starts a node on a pseudo-terminal of its own and waits until its line is there.
    pub fn start_node(&mut self, spec: &NodeSpec) -> Result<()> {
        self.start_node_with(spec, &[])
    }

    /// As [`Plant::start_node`], but the recording starts over at its end until SIGUSR1 switches the
    /// machine off.
    pub fn start_endless_node(&mut self, spec: &NodeSpec) -> Result<()> {
        self.start_node_with(spec, &["--loop"])
    }

    /// The same with a second channel, the temperature that stands in a file: write it whole, by a rename.
    pub fn start_endless_node_with_thermometer(&mut self, spec: &NodeSpec, file: &Path) -> Result<()> {
        let file = file.to_str().context("the path of the temperature is no text")?;
        self.start_node_with(spec, &["--loop", "--temperature-file", file])
    }

    /// Starts a node that shares its line, under this name, with others: somebody connects it to them.
    pub fn start_sharing_node(&mut self, spec: &NodeSpec, name: &str, flags: &[&str]) -> Result<()> {
        let shared = ["--loop", "--shared", "--baud", "921600"];
        self.start_node_on(spec, name, &[&shared, flags].concat())
    }

    fn start_node_with(&mut self, spec: &NodeSpec, flags: &[&str]) -> Result<()> {
        self.start_node_on(spec, &spec.id, flags)
    }

    fn start_node_on(&mut self, spec: &NodeSpec, name: &str, flags: &[&str]) -> Result<()> {
        let line = self.line(name);
        let mut command = Command::new(binary("trunnion-host-node")?);
        command
            .args(["--node", &spec.id])
            .args(["--rate", &spec.rate_hz.to_string()])
            .args(["--range", &spec.range_g.to_string()])
            .args(["--start-at", &spec.start_at_ms.to_string()])
            .arg("--link")
            .arg(&line)
            .args(flags);
        match &spec.source {
            Source::Recording(file) => command.arg("--file").arg(file),
            Source::Motor(motor) => command.args(motor.flags()),
        };
        let log = self.dir.join(format!("node-{name}.log"));
        self.nodes
            .push(Process::start(&format!("node {name}"), command, &log)?);
        await_some(START_LIMIT, || line.exists().then_some(()))
            .with_context(|| format!("node {name} opened no line"))
    }

    /// SIGKILL to the node on the line of this name, which goes with it, as a pulled plug takes the device file away.
    pub fn unplug_node(&mut self, name: &str) -> Result<()> {
        let is_it = |node: &Process| node.name().strip_prefix("node ") == Some(name);
        let at = self.nodes.iter().position(is_it);
        let node = self
            .nodes
            .remove(at.with_context(|| format!("no node is running on {name}"))?);
        node.kill()?;
        std::fs::remove_file(self.line(name)).context("the node had a line")
    }

    /// SIGKILL to the collector, then a new one on the same data.
    pub fn kill_and_restart_collector(&mut self) -> Result<()> {
        self.collector
            .take()
            .context("the collector is not running")?
            .kill()?;
        self.start_collector()
    }

    /// SIGKILL to the agent.
    pub fn kill_agent(&mut self) -> Result<()> {
        self.agent.take().context("the agent is not running")?.kill()
    }

    /// SIGKILL to the agent, then a new one on the same spool and lines.
    pub fn kill_and_restart_agent(&mut self, nodes: &[NodeSpec]) -> Result<()> {
        self.agent.take().context("the agent is not running")?.kill()?;
        self.start_agent(nodes)
    }

    /// The address of the collector's page and API.
    pub fn url(&self, path: &str) -> Result<String> {
        let http = self
            .http
            .as_deref()
            .context("the collector has not been started")?;
        Ok(format!("http://{http}{path}"))
    }

    /// What the API says.
    pub fn get(&self, path: &str) -> Result<Value> {
        let url = self.url(path)?;
        let mut response = ureq::get(&url).call().with_context(|| format!("GET {path}"))?;
        Ok(response.body_mut().read_json()?)
    }

    /// What the agent's own page says.
    pub fn get_agent(&self, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.agent_port);
        let mut response = ureq::get(&url).call().with_context(|| format!("GET {url}"))?;
        Ok(response.body_mut().read_json()?)
    }

    /// A figure on the collector's `/metrics`, all its labels added up; 0 when it has no line.
    pub fn metric(&self, name: &str) -> Result<f64> {
        figure(&self.url("/metrics")?, name)
    }

    /// The same of the agent's `/metrics`.
    pub fn agent_metric(&self, name: &str) -> Result<f64> {
        figure(&format!("http://127.0.0.1:{}/metrics", self.agent_port), name)
    }

    /// Stops what runs, from the sensors to the collector, each cleanly.
    pub fn stop(&mut self) -> Result<()> {
        for node in self.nodes.drain(..) {
            node.stop(STOP_LIMIT)?;
        }
        for (name, process) in [("agent", self.agent.take()), ("collector", self.collector.take())] {
            if let Some(process) = process {
                let status = process.stop(STOP_LIMIT)?;
                if !status.success() {
                    bail!("the {name} did not stop cleanly: {status}");
                }
            }
        }
        if let Some(broker) = self.broker.take() {
            broker.stop(STOP_LIMIT)?;
        }
        Ok(())
    }
}

/// A figure of a metrics page. A name with labels is that line, one without is the sum of all its lines.
fn figure(url: &str, name: &str) -> Result<f64> {
    let text = ureq::get(url).call()?.body_mut().read_to_string()?;
    let values = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
    });
    Ok(values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

/// Sets one value of a configuration.
pub fn set(config: &mut toml::Table, table: &str, key: &str, value: impl Into<toml::Value>) {
    let entry = config
        .entry(table)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let toml::Value::Table(entry) = entry {
        entry.insert(key.to_owned(), value.into());
    }
}

fn path_value(path: &Path) -> toml::Value {
    toml::Value::String(path.display().to_string())
}

/// A port of the loopback interface that was free just now, and is given to nobody else by this process.
///
/// Not one of the ephemeral ports (32768 and up on Linux): while a killed process is away, one of those
/// could go to any outgoing connection.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes that run at the same time begin at different places.
        let place = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + place % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on the loopback interface")
}
