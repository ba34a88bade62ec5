//! Automation: `cargo xtask <verb>`. One file per verb; nothing else depends on this crate.

mod bench;
mod certs;
mod ci;
mod demo;
mod eval;
mod firmware;
mod flags;
mod fuzz;
mod interrupt;
mod kills;
mod no_std;
mod outages;
mod python;
mod report;
mod sim;
mod tidy;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match flags::Xtask::parse().verb {
        flags::Verb::Demo(flags) => demo::run(&flags),
        flags::Verb::Sim(flags) => sim::run(&flags),
        flags::Verb::Fuzz(flags) => fuzz::run(&flags),
        flags::Verb::Certs { dir } => certs::make(&dir),
        flags::Verb::Ci => ci::ci(),
        flags::Verb::Test => ci::test(),
        flags::Verb::Kills(flags) => kills::run(&flags),
        flags::Verb::Outages(flags) => outages::run(&flags),
        flags::Verb::Bench(flags) => bench::run(&flags),
        flags::Verb::Firmware(flags) => firmware::run(&flags),
        flags::Verb::Eval(flags) => eval::run(&flags),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
