//! The node: what its image takes, what its computations cost, and what its frames carry.
//!
//! Instructions are counted by QEMU, so that they are the same on every machine.

use super::figure::Figure;
use super::scenario::{Progress, Scenario};
use crate::host_node::quantised;
use crate::qemu::image::{Toolchain, has, target_dir};
use crate::qemu::size::Size;
use crate::qemu::{BOARD, PROGRAM, figures};
use crate::record::{CwruRecord, Place, data_dir, files_below};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use trunnion_common::codec::{LINE_FRAME_MAX, stuff};
use trunnion_common::frame::{Class, FRAME_MAX, Header, Packing, Payload, Waveform, encode};
use trunnion_common::id::{BootId, ChannelId, LineAddress, NodeId};
use trunnion_common::packing;
use trunnion_common::time::NodeTicks;
use trunnion_common::version;
use trunnion_firmware::channel::DATA_MAX;

/// Nothing can be chosen.
#[derive(Debug, Default)]
pub struct Scale;

/// What can be measured.
pub const SCENARIOS: [Scenario<Scale>; 4] = [
    Scenario {
        name: "image",
        figures: &IMAGE,
        measure: image,
    },
    Scenario {
        name: "instructions",
        figures: &INSTRUCTIONS,
        measure: instructions,
    },
    Scenario {
        name: "wire",
        figures: &WIRE,
        measure: wire,
    },
    super::clock::CLOCK,
];

const IMAGE: [Figure; 4] = [
    Figure::at_most("flash_kib_stm32f405", 64.0, "KiB"),
    Figure::at_most("ram_kib_stm32f405", 32.0, "KiB"),
    Figure::told("flash_kib_qemu_an386", "KiB"),
    Figure::told("ram_kib_qemu_an386", "KiB"),
];

const INSTRUCTIONS: [Figure; 4] = [
    Figure::at_most("feature_window_instructions", 90_000.0, "instructions"),
    Figure::told("velocity_window_instructions", "instructions"),
    Figure::told("packing_window_instructions", "instructions"),
    Figure::at_most("edge_inference_instructions", 200_000.0, "instructions"),
];

const WIRE: [Figure; 3] = [
    Figure::at_least("wire_payload_share", 0.9, ""),
    Figure::at_most("waveform_bytes_per_sample", 1.4, "B"),
    Figure::at_most("waveform_bytes_per_sample_max", 1.55, "B"),
];

/// Full scale of the sensor that records are taken to be of, g.
const RANGE_G: f32 = 16.0;

fn toolchain() -> Result<Toolchain> {
    Toolchain::find()
        .context("no compiler for thumbv7em-none-eabihf: cargo xtask firmware build installs one")
}

fn image(_: &Path, _: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    let toolchain = toolchain()?;
    let mut figures = Vec::new();
    for (board, of_board) in ["stm32f405", BOARD].into_iter().zip(IMAGE.as_chunks::<2>().0) {
        let size = Size::of(&toolchain.build(board, &target_dir())?)?;
        let [flash, ram] = of_board.clone();
        figures.push(flash.measured(size.flash as f64 / 1_024.0));
        figures.push(ram.measured(size.ram as f64 / 1_024.0));
    }
    Ok(figures)
}

/// On a motor at 12 kHz; statistics of a window, with no bands: no plan names any yet.
fn instructions(dir: &Path, _: &Scale, _: Progress<'_>) -> Result<Vec<Figure>> {
    ensure!(has(PROGRAM), "{PROGRAM} is not installed");
    let stimulus = figures::stimulus()?;
    let told = figures::measure(dir, toolchain()?, &stimulus)?;
    figures::compare(&told.values, &figures::expected(&stimulus)?)?;
    let figure = |figure: Figure| -> Result<Figure> {
        let cost = told.cost(&figure.name)?;
        Ok(figure.measured(cost as f64))
    };
    INSTRUCTIONS.into_iter().map(figure).collect()
}

/// Real records of bearings, cut into frames as a node would.
fn wire(_: &Path, _: &Scale, progress: Progress<'_>) -> Result<Vec<Figure>> {
    let folder = data_dir().join("cwru");
    let files = files_below(&folder, ".mat");
    ensure!(
        !files.is_empty(),
        "no records in {} (TRUNNION_DATA)",
        folder.display()
    );
    let (mut each, mut data_bytes, mut line_bytes) = (Vec::new(), 0, 0);
    for file in &files {
        let record = CwruRecord::read(file)?;
        let samples = record.channel(Place::DriveEnd);
        let samples = samples.with_context(|| format!("{} has no drive-end channel", file.display()))?;
        let samples: Vec<i16> = samples.iter().map(|value| quantised(*value, RANGE_G)).collect();
        let frames = frames(&samples)?;
        let bytes: usize = frames.iter().map(|frame| frame.data).sum();
        let share = bytes as f64 / samples.len() as f64;
        progress(&format!("{}: {share:.3} bytes a sample", record.name));
        each.push(share);
        // A frame that the noise of the signal has filled, as most are.
        for frame in frames.iter().filter(|frame| frame.data > DATA_MAX - 16) {
            data_bytes += frame.data;
            line_bytes += frame.line;
        }
    }
    ensure!(line_bytes > 0, "no record fills a frame");
    let [payload, mean, most] = WIRE;
    Ok(vec![
        payload.measured(data_bytes as f64 / line_bytes as f64),
        mean.measured(each.iter().sum::<f64>() / each.len() as f64),
        most.measured(each.into_iter().fold(0.0, f64::max)),
    ])
}

/// Bytes of a waveform frame.
struct Framed {
    data: usize,
    line: usize,
}

fn frames(samples: &[i16]) -> Result<Vec<Framed>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < samples.len() {
        let mut data = [0; DATA_MAX];
        let packed = packing::pack(&samples[at..], &mut data);
        ensure!(packed.samples > 0, "a frame holds no sample");
        let payload = Payload::Waveform(Waveform {
            revision: 1,
            channel: ChannelId::new(0).context("0 is a channel")?,
            first_sample: at as u64,
            count: packed.samples as u16,
            packing: Packing::Predicted,
            data: &data[..packed.bytes],
        });
        let header = Header {
            version: version::FRAME,
            address: LineAddress(1),
            node: NodeId::new(0xA1_0000_0000_0000).context("not 0")?,
            boot: BootId::new(1, 0x5EED_5EED),
            class: Class::Waveform,
            sequence: frames.len() as u64,
            ticks: NodeTicks(at as u64 * 1_000_000 / 12_000),
        };
        let (mut frame, mut line) = ([0; FRAME_MAX], [0; LINE_FRAME_MAX]);
        let frame = encode(&header, &payload, &mut frame)?;
        frames.push(Framed {
            data: packed.bytes,
            line: stuff(frame, &mut line)?.len(),
        });
        at += packed.samples;
    }
    Ok(frames)
}
