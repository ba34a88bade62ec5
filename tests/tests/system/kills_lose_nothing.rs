//! Neither the agent's nor the collector's death costs a sample, whenever it comes.

use std::time::{SystemTime, UNIX_EPOCH};
use trunnion_tests::kills::{Options, run};

#[test]
fn a_hundred_kills_under_load_cost_no_sample_and_double_none() {
    #[allow(
        clippy::disallowed_methods,
        reason = "each run rolls its own dice, and says which"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let options = Options {
        kills: 100,
        seed: now.as_secs(),
    };
    let dir = tempfile::tempdir().unwrap();
    let report = run(dir.path(), &options, |line| eprintln!("{line}")).unwrap();
    assert_eq!((report.kills_collector, report.kills_agent), (50, 50));
    assert!(report.verdict.is_flawless(), "{report:#?}");
}
