//! `connect --test`: can this gateway reach its collectors, and if not, why not.

use super::{date, refuse, say, system_utc};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use trunnion_agent::config::{Config, Problems};
use trunnion_agent::enrolment::Enrolment;
use trunnion_agent::probe::{Probe, Stage, probe};
use trunnion_agent::{floor, spool, tls};

/// What to try.
#[derive(Args)]
pub(crate) struct ConnectArguments {
    /// Try every endpoint once and say how far it goes; the only thing that this verb does.
    #[arg(long, required = true)]
    test: bool,
    /// Configuration file.
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    config: Option<PathBuf>,
    /// Without a configuration file: the enrolment bundle.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    bundle: Option<PathBuf>,
    /// Without a configuration file: where the spool and the clock floor are.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    /// Go on although an agent runs, whose connection is then cut; it comes back by itself.
    #[arg(long)]
    force: bool,
    /// Longest time for each step, seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout_s: u64,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl ConnectArguments {
    fn sources(&self) -> Result<(Enrolment, Option<PathBuf>), Problems> {
        match (&self.config, &self.bundle) {
            (Some(file), _) => {
                let config = Config::load(file)?;
                Ok((config.enrolment, Some(config.state_dir)))
            }
            (None, Some(bundle)) => Ok((Enrolment::load(bundle)?, self.state_dir.clone())),
            // The command line's own rules leave no other case.
            (None, None) => Err(Problems::default()),
        }
    }
}

/// Tries every endpoint; exit code 0 when one at least can be used.
pub(crate) fn run(arguments: &ConnectArguments) -> ExitCode {
    let (enrolment, state_dir) = match arguments.sources() {
        Ok(sources) => sources,
        Err(problems) => return refuse(&problems),
    };
    let is_running = state_dir.as_deref().is_some_and(spool::tools::is_in_use);
    if is_running && !arguments.force {
        eprintln!(
            "an agent is running, and a test under its name would cut its connection: its metrics page and its log say how it fares; \
             stop it first, or repeat with --force, after which it connects again by itself"
        );
        return ExitCode::FAILURE;
    }
    let saved = state_dir
        .as_deref()
        .and_then(|directory| floor::look(directory).ok());
    let floor = floor::Floor::new(saved.and_then(floor::Saved::floor), tls::enrolled(&enrolment));
    let patience = Duration::from_secs(arguments.timeout_s);
    let now = system_utc();
    if !arguments.json {
        println!("gateway          {}", enrolment.gateway);
        println!("system clock     {}", date(now));
        println!("clock floor      {}", date(floor.utc()));
        println!("checked at       {}", date(now.max(floor.utc())));
        let own = enrolment.certificate.first().and_then(tls::validity);
        if let Some((from, until)) = own {
            println!("own certificate  {} to {}", date(from), date(until));
        }
    }
    let probes: Vec<Probe> = enrolment
        .endpoints
        .iter()
        .map(|endpoint| {
            let probe = probe(&enrolment, endpoint, Some(floor.utc()), now, patience);
            if !arguments.json {
                print(&probe);
            }
            probe
        })
        .collect();
    say(arguments.json, &probes, || {});
    if probes.iter().any(Probe::is_good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(probe: &Probe) {
    println!("{}", probe.endpoint);
    for step in &probe.steps {
        let verdict = if step.todo.is_none() { "ok" } else { "FAILED" };
        println!(
            "  {:<9} {verdict:<6} {:>8.1} ms  {}",
            step.stage.label(),
            step.took_ms,
            step.what
        );
        if let (Stage::Tls, None, Some(until)) = (step.stage, &step.todo, probe.certificate_until) {
            println!("  {:>28} until {}", "", date(until));
        }
        if let Some(todo) = &step.todo {
            println!("  {:>28} {todo}", "");
        }
    }
}
