//! A node in QEMU: the firmware's image on an emulated Cortex-M4F, whose UART is the agent's port.
//!
//! The record is preloaded into memory, the thermometer is an emulated TMP105 on I2C whose temperature is
//! set from outside, and settings are kept in an emulated EEPROM, which is a file. The image of a real part runs
//! too, without anything on its buses ([`netduino`]).

pub mod figures;
pub mod image;
pub mod layout;
pub mod line;
pub mod netduino;
pub mod scene;
pub mod size;

use crate::process::{Process, await_some};
use anyhow::{Context, Result, bail};
use line::Line;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
pub use trunnion_firmware::link::Wiring;
use trunnion_firmware::sensor::record;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-arm";

/// Debian's package of it.
pub const DEBIAN_PACKAGE: &str = "qemu-system-arm";

/// The board that it emulates.
pub const BOARD: &str = "qemu-an386";

/// How long the emulator may take to open its sockets, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Where the board looks for a record, and the words that are its identity: node (8 bytes), entropy (4), wiring (4).
const STIMULUS: u32 = 0x2100_0000;
const IDENTITY: u32 = 0x21FF_FFF0;

/// Bytes of the EEPROM, an AT24C256.
const EEPROM_BYTES: u64 = 32 << 10;

/// The number of the interrupt that the image's executor runs in, among the exceptions.
const EXECUTOR_EXCEPTION: u32 = 16 + 30;

/// What QEMU calls the machine of [`BOARD`].
const MACHINE: &str = "mps2-an386";

/// The emulator with an image on a machine, and nothing that shows on a screen.
fn machine(name: &str, image: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["-M", name, "-display", "none", "-monitor", "none"])
        .arg("-kernel")
        .arg(image);
    command
}

/// What a node in QEMU is given.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its id.
    pub node: u64,
    /// What stands for its random number generator, drawn anew at each power-on.
    pub entropy: u32,
    /// Who else is on its line: what stands for the strap of other boards.
    pub wiring: Wiring,
    /// What its accelerometer plays over and over.
    pub stimulus: Stimulus,
}

/// What is loaded into memory in place of an accelerometer.
#[derive(Clone, Debug)]
pub struct Stimulus {
    /// The record.
    pub samples: Vec<i16>,
    /// Its sample rate, millihertz.
    pub rate_mhz: NonZeroU32,
    /// Its full scale, g.
    pub range_g: f32,
}

impl Stimulus {
    /// Writes the record to `dir`; what QEMU must be told to load it.
    fn load(&self, dir: &Path) -> Result<[String; 2]> {
        let file = dir.join("record");
        let bytes: Vec<u8> = self
            .samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        let header = record::header(self.rate_mhz, self.range_g, &bytes);
        std::fs::write(&file, [&header[..], &bytes].concat())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let loader = format!("loader,file={},addr={STIMULUS:#x},force-raw=on", file.display());
        Ok(["-device".to_owned(), loader])
    }
}

/// A running node.
#[derive(Debug)]
pub struct Qemu {
    process: Process,
    line: Line,
    monitor: Monitor,
    debugger: PathBuf,
    /// Whether it is a real part's image.
    is_part: bool,
}

impl Qemu {
    /// Powers a node up in `dir`, where its EEPROM lies; its line appears as `link`.
    pub fn start(dir: &Path, image: &Path, spec: &Spec, link: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let eeprom = dir.join("eeprom");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&eeprom)
            .context("the EEPROM's file")?;
        file.set_len(EEPROM_BYTES)?;
        let mut command = machine(MACHINE, image);
        command
            .args(["-device", "tmp105,id=thermometer,address=0x48,bus=i2c"])
            .arg("-drive")
            .arg(format!("if=none,id=eeprom,format=raw,file={}", eeprom.display()))
            .arg("-device")
            .arg(format!(
                "at24c-eeprom,bus=i2c,address=0x50,rom-size={EEPROM_BYTES},drive=eeprom"
            ));
        command.args(spec.stimulus.load(dir)?);
        let identity = [
            (IDENTITY, spec.node, 8),
            (IDENTITY + 8, u64::from(spec.entropy), 4),
            (IDENTITY + 12, u64::from(spec.wiring == Wiring::Shared), 4),
        ];
        for (address, data, length) in identity {
            command.arg("-device").arg(format!(
                "loader,addr={address:#x},data={data:#x},data-len={length}"
            ));
        }
        Self::power(command, dir, link)
    }

    /// Powers a STM32F405 with that unique id up in `dir`, with no crystal, nothing on its buses and a shaft that stands;
    /// its line appears as `link`.
    pub fn start_part(dir: &Path, image: &Path, id: [u8; 12], link: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (image, memory) = netduino::prepare(dir, image, id)?;
        let mut command = machine(netduino::MACHINE, &image);
        command.args(memory);
        let mut node = Self::power(command, dir, link)?;
        node.is_part = true;
        netduino::set_timer(&node.debugger)?;
        Ok(node)
    }

    fn power(mut command: Command, dir: &Path, link: &Path) -> Result<Self> {
        let [uart, qmp, debugger] = ["uart", "qmp", "gdb"].map(|name| dir.join(name));
        for socket in [&uart, &qmp, &debugger] {
            let _ = std::fs::remove_file(socket);
        }
        command
            .arg("-chardev")
            .arg(format!(
                "socket,id=line,path={},server=on,wait=off",
                uart.display()
            ))
            .args(["-serial", "chardev:line", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", qmp.display()))
            .arg("-gdb")
            .arg(format!("unix:{},server=on,wait=off", debugger.display()));
        let process = Process::start("qemu", command, &dir.join("qemu.log"))?;
        let connect = |path: &Path| {
            await_some(START_LIMIT, || UnixStream::connect(path).ok())
                .with_context(|| format!("no {} of QEMU; its log:\n{}", path.display(), process.log()))
        };
        let line = Line::open(connect(&uart)?, link)?;
        let monitor = Monitor::new(connect(&qmp)?)?;
        Ok(Self {
            process,
            line,
            monitor,
            debugger,
            is_part: false,
        })
    }

    /// The line, with what happens to lines.
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// Sets what the thermometer feels, degrees Celsius.
    pub fn set_temperature(&mut self, degrees: f64) -> Result<()> {
        let arguments = json!({
            "path": "/machine/peripheral/thermometer",
            "property": "temperature",
            "value": (degrees * 1_000.0).round() as i64,
        });
        self.monitor.execute("qom-set", &arguments).map(|_| ())
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<()> {
        self.monitor.execute("system_reset", &json!({}))?;
        if self.is_part {
            netduino::set_timer(&self.debugger)?;
        }
        Ok(())
    }

    /// Lets the image's tasks hang: from now on a jump to itself is where they begin.
    pub fn hang(&self) -> Result<()> {
        self.begin_tasks_with(0xE7FE).map(|_| ())
    }

    /// Lets the image's tasks panic; the address of the instruction that does.
    pub fn panic(&self) -> Result<u32> {
        self.begin_tasks_with(0xDEFE)
    }

    /// Makes this the first instruction of the tasks' interrupt's handler, until the next reset loads the image anew; its
    /// address.
    fn begin_tasks_with(&self, instruction: u16) -> Result<u32> {
        let mut debugger = Debugger::attach(&self.debugger)?;
        let handler = debugger.read_word(4 * EXECUTOR_EXCEPTION)? & !1;
        debugger.write(handler, &instruction.to_le_bytes())?;
        debugger.detach()?;
        Ok(handler)
    }

    /// Memory of the machine from `address` on.
    pub fn memory(&mut self, address: u64, bytes: u64) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new()?;
        let arguments = json!({"val": address, "size": bytes, "filename": file.path()});
        self.monitor.execute("pmemsave", &arguments)?;
        Ok(std::fs::read(file.path())?)
    }

    /// Whether the emulator is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// QEMU's machine protocol: a line of JSON each way.
#[derive(Debug)]
struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.answer().context("QEMU's greeting")?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let text = json!({"execute": command, "arguments": arguments}).to_string();
        self.stream.get_mut().write_all(text.as_bytes())?;
        loop {
            let answer = self.answer().with_context(|| format!("no answer to {command}"))?;
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // Anything else is an event.
        }
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU has closed its monitor");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// As much of GDB's remote protocol as it takes to change memory and devices. The machine stands still meanwhile.
struct Debugger {
    stream: UnixStream,
}

impl Debugger {
    fn attach(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("no debugger port of QEMU")?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream })
    }

    fn read_word(&mut self, address: u32) -> Result<u32> {
        self.word(&format!("m{address:x},4"))
    }

    fn word(&mut self, question: &str) -> Result<u32> {
        let answer = self.exchange(question)?;
        let word = u32::from_str_radix(&answer, 16).with_context(|| format!("no word: {answer}"))?;
        Ok(word.swap_bytes())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<()> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect_ok(&format!("M{address:x},{:x}:{hex}", bytes.len()))
    }

    fn expect_ok(&mut self, order: &str) -> Result<()> {
        match self.exchange(order)?.as_str() {
            "OK" => Ok(()),
            other => bail!("QEMU answers {order} with {other}"),
        }
    }

    fn set_registers(&mut self, values: [(u8, u32); 4]) -> Result<()> {
        values.into_iter().try_for_each(|(number, value)| {
            self.expect_ok(&format!("P{number:x}={:08x}", value.swap_bytes()))
        })
    }

    /// Lets the processor carry out one instruction.
    fn step(&mut self) -> Result<()> {
        self.send("s")?;
        while !self.answer()?.starts_with('T') {}
        Ok(())
    }

    /// Has the processor write a word: what the debugger itself writes reaches memory, and no device. `scratch` is memory
    /// that nobody uses.
    fn store(&mut self, address: u32, value: u32, scratch: u32) -> Result<()> {
        // r0, r1, pc and xPSR by their numbers in QEMU; `str r0, [r1]`, in Thumb and in no IT block.
        const REGISTERS: [u8; 4] = [0, 1, 15, 25];
        // QEMU has single registers for those alone who have asked which there are.
        self.exchange("qXfer:features:read:target.xml:0,fff")?;
        self.write(scratch, &0x6008_u16.to_le_bytes())?;
        let mut saved = REGISTERS.map(|number| (number, 0));
        for (number, value) in &mut saved {
            *value = self.word(&format!("p{number:x}"))?;
        }
        let [r0, r1, pc, xpsr] = REGISTERS;
        self.set_registers([(r0, value), (r1, address), (pc, scratch), (xpsr, 1 << 24)])?;
        self.step()?;
        self.set_registers(saved)
    }

    /// Lets the machine go on.
    fn detach(mut self) -> Result<()> {
        self.exchange("D").map(|_| ())
    }

    fn exchange(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        loop {
            let answer = self.answer()?;
            // That the machine stands still is told unasked.
            if !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        Ok(write!(self.stream, "${packet}#{sum:02x}")?)
    }

    fn answer(&mut self) -> Result<String> {
        let mut answer = Vec::new();
        let mut byte = [0];
        // What comes before the dollar acknowledges a packet; two digits of checksum follow the hash.
        loop {
            self.stream.read_exact(&mut byte)?;
            match byte[0] {
                b'$' => answer.clear(),
                b'#' => break,
                other => answer.push(other),
            }
        }
        self.stream.read_exact(&mut [0; 2])?;
        self.stream.write_all(b"+")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
