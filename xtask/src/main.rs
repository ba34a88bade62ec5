//! Automation: `cargo xtask <verb>`. One file per verb; nothing else depends on this crate.

mod bench;
mod ci;
mod demo;
mod flags;
mod kills;
mod no_std;
mod report;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    match flags::Xtask::parse().verb {
        flags::Verb::Demo(flags) => demo::run(&flags),
        flags::Verb::Ci => ci::checks(),
        flags::Verb::Test => ci::test(),
        flags::Verb::Kills(flags) => kills::run(&flags),
        flags::Verb::Bench(flags) => bench::run(&flags),
    }
}
