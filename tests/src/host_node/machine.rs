//! A simulated machine under the node's sensor.

use super::SampleSource;
use crate::sim_machine::{MachineSpec, SeededFault, SimMachine};
use anyhow::ensure;

/// A motor to simulate; with the sensor's rate, it decides every sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Motor {
    /// What chance is drawn from.
    pub seed: u64,
    /// The fault, if there is to be one.
    pub fault: Option<SeededFault>,
    /// How long it runs, seconds.
    pub seconds: f64,
}

impl Motor {
    /// The motor's physics, felt at `rate_hz`.
    pub fn spec(&self, rate_hz: f64) -> MachineSpec {
        MachineSpec {
            fault: self.fault,
            ..MachineSpec::motor(rate_hz, self.seed)
        }
    }

    /// The flags of `trunnion-host-node` that simulate it.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = format!("--machine motor --seed {} --seconds {}", self.seed, self.seconds);
        if let Some(fault) = self.fault {
            let SeededFault {
                element,
                severity_g,
                onset_s,
            } = fault;
            flags += &format!(" --fault {element} --severity {severity_g} --onset {onset_s}");
        }
        flags.split(' ').map(str::to_owned).collect()
    }

    /// The running motor.
    pub fn start(&self, rate_hz: f64) -> anyhow::Result<RunningMotor> {
        let spec = self.spec(rate_hz);
        ensure!(
            rate_hz.is_finite() && rate_hz > 2.0 * spec.resonance_hz,
            "--rate {rate_hz} is too low: the motor rings at {} Hz, so give more than {}",
            spec.resonance_hz,
            2.0 * spec.resonance_hz
        );
        ensure!(
            self.seconds.is_finite() && self.seconds > 0.0,
            "--seconds {} is no length of time",
            self.seconds
        );
        if let Some(fault) = self.fault {
            ensure!(
                fault.severity_g.is_finite() && fault.onset_s.is_finite() && fault.onset_s >= 0.0,
                "--severity and --onset are finite numbers, and the onset is not before the start"
            );
        }
        Ok(RunningMotor {
            rate_hz,
            rest: (self.seconds * rate_hz) as u64,
            machine: SimMachine::new(spec),
        })
    }
}

/// A motor that runs until its time is up.
#[derive(Debug)]
pub struct RunningMotor {
    rate_hz: f64,
    /// Samples until it stops.
    rest: u64,
    machine: SimMachine,
}

impl SampleSource for RunningMotor {
    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn read(&mut self, out: &mut [f32]) -> usize {
        let taken = usize::try_from(self.rest).unwrap_or(usize::MAX).min(out.len());
        self.machine.fill(&mut out[..taken]);
        self.rest -= taken as u64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunnion_diagnosis::bearing::Element;

    #[test]
    fn a_motor_stops_when_its_time_is_up() {
        let motor = Motor {
            seed: 1,
            fault: None,
            seconds: 0.1,
        };
        let mut running = motor.start(10_000.0).unwrap();
        let mut out = [0.0; 600];
        assert_eq!([(); 3].map(|()| running.read(&mut out)), [600, 400, 0]);
    }

    #[test]
    fn a_motor_that_cannot_be_sampled_is_refused() {
        let motor = |seconds| Motor {
            seed: 1,
            fault: None,
            seconds,
        };
        assert!(motor(1.0).start(6_400.0).is_err());
        assert!(motor(1.0).start(f64::NAN).is_err());
        assert!(motor(-1.0).start(25_600.0).is_err());
    }

    #[test]
    fn the_flags_say_everything() {
        let motor = Motor {
            seed: 7,
            fault: Some(SeededFault {
                element: Element::InnerRace,
                severity_g: 0.5,
                onset_s: 10.0,
            }),
            seconds: 30.0,
        };
        assert_eq!(
            motor.flags().join(" "),
            "--machine motor --seed 7 --seconds 30 --fault inner_race --severity 0.5 --onset 10"
        );
    }
}
