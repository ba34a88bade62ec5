//! Whose a rise is, among the points of a machine.

use super::condition::{decided, notices, run};
use super::*;
use crate::advisory::{Advisory, Cause, Explanation};
use crate::decision::DecisionAction;
use trunnion_common::level::Level;

const RMS: Cause = Cause::Deviation(FeatureKind::Rms);

/// A motor with a sensor at each end, on a node of its own.
fn motor() -> Entry {
    let Entry::Fleet { effective, text } = fleet(1) else {
        unreachable!("the fleet is one");
    };
    let condition = "id = \"fan-1\"\n[site.area.asset.condition]\nsettle_s = 0\nbaseline_windows = 5\nbaseline_hours = 0\n";
    let (above, point) = text.split_once("[[site.area.asset.point]]").unwrap();
    let other = point
        .replace("motor-de", "motor-nde")
        .replace("0000000000000001", "0000000000000002");
    let above = above.replace("id = \"fan-1\"\n", condition);
    let text = format!("{above}[[site.area.asset.point]]{point}[[site.area.asset.point]]{other}");
    Entry::Fleet { effective, text }
}

/// Both ends run at 1 mm/s until that is accepted as normal, and then at so much each.
fn rising(to: [f64; 2]) -> Vec<Commit> {
    let mut nodes = [Node::new(1), Node::new(2)];
    let mut entries = vec![motor()];
    for node in &mut nodes {
        entries.extend(node.story(0, |_| 0.0));
    }
    let mut both = |seconds, velocities: [f64; 2]| {
        let [first, second] = &mut nodes;
        let first = run(first, seconds, velocities[0]);
        let second = run(second, seconds, velocities[1]);
        let pairs = first.into_iter().zip(second);
        pairs
            .flat_map(|(first, second)| [first, second])
            .collect::<Vec<_>>()
    };
    entries.extend(both(8, [1.0; 2]));
    entries.push(decided(DecisionAction::AcceptBaseline));
    entries.extend(both(10, to));
    commits(entries)
}

/// What is told of the RMS at a point: the highest level, and the last explanation.
fn told(outputs: &[Output], point: &str) -> Option<(Level, Option<Explanation>)> {
    let notices = notices(outputs);
    let of = |advisory: &&Advisory| advisory.cause == RMS && advisory.point == point;
    let told: Vec<_> = notices.iter().map(|(_, advisory)| *advisory).filter(of).collect();
    let level = told.iter().map(|advisory| advisory.level).max()?;
    Some((level, told.last()?.explanation.clone()))
}

#[test]
fn what_is_heard_from_a_neighbour_that_has_risen_more_is_an_alert_that_says_so() {
    let commits = rising([60.0, 15.0]);
    let (_, outputs) = play(&commits);
    assert_eq!(told(&outputs, "motor-de"), Some((Level::Alarm, None)));
    let heard = Explanation::Transmitted("motor-de".into());
    assert_eq!(told(&outputs, "motor-nde"), Some((Level::Alert, Some(heard))));
}

/// Windows of the first node are judged before those of the second that end with them.
#[test]
fn a_neighbour_that_is_judged_before_its_source_is_never_an_alarm() {
    let (_, outputs) = play(&rising([15.0, 60.0]));
    let heard = Explanation::Transmitted("motor-nde".into());
    assert_eq!(told(&outputs, "motor-de"), Some((Level::Alert, Some(heard))));
    assert_eq!(told(&outputs, "motor-nde"), Some((Level::Alarm, None)));
}

#[test]
fn a_rise_of_its_own_is_an_alarm_at_either_end_and_at_both() {
    let (_, outputs) = play(&rising([1.0, 20.0]));
    assert_eq!(told(&outputs, "motor-de"), None);
    assert_eq!(told(&outputs, "motor-nde"), Some((Level::Alarm, None)));
    let (_, outputs) = play(&rising([20.0, 22.0]));
    assert_eq!(told(&outputs, "motor-de"), Some((Level::Alarm, None)));
    assert_eq!(told(&outputs, "motor-nde"), Some((Level::Alarm, None)));
}
