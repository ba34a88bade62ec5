//! Automation: `cargo xtask <verb>`. One file per verb; nothing else depends on this crate.

mod ci;
mod demo;
mod flags;
mod no_std;
mod report;
mod sim;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    match flags::Xtask::parse().verb {
        flags::Verb::Demo(flags) => demo::run(&flags),
        flags::Verb::Sim(flags) => sim::run(&flags),
        flags::Verb::Ci => ci::checks(),
        flags::Verb::Test => ci::test(),
    }
}
