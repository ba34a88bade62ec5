//! Readers of files that people and other programs write: configuration, bundle, fleet, records.

use super::{Probe, Target, ensure};
use crate::record::matlab;
use crate::workspace;
use anyhow::Result;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use trunnion_agent::enrolment::Enrolment;
use trunnion_collector::fleet::Fleet;
use trunnion_collector::settings::Settings;

pub(super) const CONFIG: Target = Target {
    name: "config",
    bytes_max: 4_096,
    seeds: || Ok((0..4).map(|which| vec![which]).collect()),
    check: check_config,
};

pub(super) const FLEET: Target = Target {
    name: "fleet",
    bytes_max: 4_096,
    seeds: fleets,
    check: check_fleet,
};

pub(super) const MATLAB: Target = Target {
    name: "matlab",
    bytes_max: 1_024,
    seeds: || Ok(vec![matlab_file(false), matlab_file(true)]),
    check: check_matlab,
};

/// The first byte says which file the rest is: the agent's configuration, its bundle, the collector's
/// configuration, settings of its pipeline.
fn check_config(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let (which, text) = input.split_first().unwrap_or((&0, &[]));
    let text = String::from_utf8_lossy(text);
    match which % 4 {
        0 => {
            let (folder, path) = written(&text)?;
            let problems = match trunnion_agent::config::Config::load(&path) {
                Ok(_) => return Ok(()),
                Err(problems) => problems,
            };
            drop(folder);
            // What is wrong with the bundle that it names stands in another file.
            let own = problems.iter().filter(|problem| problem.file == path);
            check_places(
                own.map(|problem| (problem.place, problem.to_string())),
                &text,
                probe,
            )
        }
        1 => {
            let (folder, path) = written(&text)?;
            let problems = match Enrolment::load(&path) {
                Ok(_) => return Ok(()),
                Err(problems) => problems,
            };
            drop(folder);
            check_places(
                problems
                    .iter()
                    .map(|problem| (problem.place, problem.to_string())),
                &text,
                probe,
            )
        }
        2 => {
            let file = Path::new("collector.toml");
            let problems = match trunnion_collector::config::Config::parse(&text, file) {
                Ok(_) => return Ok(()),
                Err(problems) => problems,
            };
            let places = problems
                .iter()
                .map(|problem| (Some((problem.line, problem.column)), problem.to_string()));
            check_places(places, &text, probe)
        }
        _ => {
            let Ok(settings) = Settings::parse(&text) else {
                return Ok(());
            };
            probe.note(settings.to_text());
            let again = Settings::parse(&settings.to_text());
            ensure(again.as_ref().ok() == Some(&settings), || {
                format!("{settings:?} becomes {again:?}")
            })
        }
    }
}

fn written(text: &str) -> Result<(tempfile::TempDir, std::path::PathBuf), String> {
    let failed = |error: std::io::Error| error.to_string();
    let folder = super::disk::folder()?;
    let path = folder.path().join("file.toml");
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok((folder, path))
}

/// A refused text has at least one problem, and each has its place in it.
fn check_places(
    problems: impl Iterator<Item = (Option<(usize, usize)>, String)>,
    text: &str,
    probe: &mut Probe,
) -> Result<(), String> {
    let lines = text.split('\n').count();
    for (place, told) in problems {
        // What it says without what it quotes.
        let words: String = told.split(['`', '"']).step_by(2).take(3).collect();
        let words: String = words.chars().filter(|c| !c.is_ascii_digit()).collect();
        probe.note(words);
        let (line, column) = place.ok_or_else(|| format!("a problem has no place: {told}"))?;
        ensure((1..=lines).contains(&line) && column >= 1, || {
            format!("line {line}, column {column} of {lines} lines: {told}")
        })?;
    }
    Ok(())
}

fn fleets() -> Result<Vec<Vec<u8>>> {
    let example = workspace::root().join("collector/src/init/fleet.toml");
    Ok(vec![std::fs::read(example)?])
}

fn check_fleet(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let text = String::from_utf8_lossy(input);
    match Fleet::parse(&text, "fleet.toml") {
        Ok(fleet) => {
            probe.note((fleet.assets().len(), fleet.channels().count()));
            for (node, channel, site) in fleet.channels() {
                let _ = site.context(25_600.0, 10_000.0);
                ensure(fleet.channel(node, channel).is_some(), || {
                    format!("channel {channel} of {node} is listed and not found")
                })?;
            }
            let _ = fleet.asset_rows();
            Ok(())
        }
        Err(problems) => {
            ensure(!problems.is_empty(), || "refused without a problem".to_owned())?;
            let places = problems
                .iter()
                .map(|problem| (Some((problem.line, problem.column)), problem.to_string()));
            check_places(places, &text, probe)
        }
    }
}

/// A file with one matrix of four numbers, plain or with its name in the short form of an element.
fn matlab_file(is_short: bool) -> Vec<u8> {
    let mut file = vec![b' '; 124];
    file.extend([0, 1, b'I', b'M']);
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let flags = element(6, &[6, 0, 0, 0, 0, 0, 0, 0]);
    let size = element(5, &[4, 0, 0, 0, 1, 0, 0, 0]);
    let name = if is_short {
        [(3 << 16 | 1_u32).to_le_bytes(), *b"X97\0"].concat()
    } else {
        element(1, b"X097_DE_time")
    };
    let values: Vec<u8> = [1.0, -2.5, f64::NAN, 0.0_f64]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let matrix = [flags, size, name, element(9, &values)].concat();
    file.extend(element(14, &matrix));
    file
}

fn check_matlab(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    match matlab::read(input) {
        Ok(variables) => {
            let values: usize = variables.iter().map(|variable| variable.values.len()).sum();
            probe.note((
                variables.len(),
                values,
                variables.iter().map(|v| v.name.len()).sum::<usize>(),
            ));
            ensure(values <= input.len(), || {
                format!("{values} values in {} bytes", input.len())
            })
        }
        Err(error) => {
            probe.note((error.reason, error.offset / 32));
            ensure(error.offset <= input.len(), || {
                format!("byte {} of {}", error.offset, input.len())
            })
        }
    }
}
