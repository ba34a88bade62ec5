//! What was learned of a fleet, as it is journaled, and the table that it is learned from.

use super::{Probe, Target, ensure};
use anyhow::Result;
use trunnion_collector::prognosis::Prognosis;
use trunnion_collector::prognosis::fleet_life::{FleetLife, FleetLifeError};
use trunnion_collector::prognosis::fleet_model::{FleetMember, FleetModelError, MACHINES_MIN, MemberState};
use trunnion_common::time::EventTime;

pub(super) const LEARNED: Target = Target {
    name: "learned",
    bytes_max: 1 << 17,
    seeds,
    check,
};

/// Rows that a model which can be read is given.
const ROWS: i64 = 3;

/// So many machines that ever more wears; with fewer than a model takes, learning ends before its long part.
fn table(machines: usize) -> String {
    let mut table = "machine,de/speed:mean,de/v:rms,de/warm:mean\n".to_owned();
    for machine in 0..machines {
        for row in 0..6 {
            table.push_str(&format!("m-{machine},1500,{row}.5,{}\n", 40 + row * machine));
        }
    }
    table
}

/// The first byte says whether the rest is a table or a model.
fn seeds() -> Result<Vec<Vec<u8>>> {
    let model = FleetLife::learn(table(MACHINES_MIN).as_bytes(), &[], 60.0)?.to_bytes()?;
    let few = table(2);
    Ok(vec![[&[0], few.as_bytes()].concat(), [&[1], &model[..]].concat()])
}

/// A table is refused with a reason that can be told; a model that can be read says something of rows.
fn check(input: &[u8], probe: &mut Probe) -> Result<(), String> {
    let (which, rest) = input.split_first().unwrap_or((&0, &[]));
    if which % 2 == 0 {
        let setting = "de/speed:mean".parse().map_err(|error| format!("{error}"))?;
        match FleetLife::learn(rest, &[setting], 60.0) {
            Ok(_) => probe.note("learned"),
            Err(FleetLifeError::Model(FleetModelError::TooFew { .. })) => probe.note("too few"),
            Err(error) => {
                ensure(!error.to_string().is_empty(), || {
                    "refused without a reason".to_owned()
                })?;
                probe.note(std::mem::discriminant(&error));
            }
        }
        return Ok(());
    }
    let Ok(life) = FleetLife::from_bytes(rest) else {
        return Ok(());
    };
    let mut member = FleetMember::new(life.model(), MemberState::default());
    for row in 0..ROWS {
        let readings: Vec<f64> = (0..life.columns().len())
            .map(|column| column as f64 + 0.5)
            .collect();
        let outlook = member.handle_readings(EventTime(row.saturating_mul(life.row_ns())), &readings);
        probe.note(outlook.label());
    }
    let again = life.to_bytes().map_err(|error| error.to_string())?;
    ensure(FleetLife::from_bytes(&again).is_ok(), || {
        "what was read is not read again".to_owned()
    })
}
