//! From sensor to alarm, with the collector and the agent killed on the way.

use trunnion_tests::cases;
use trunnion_tests::record::{data_dir, or_skip};
use trunnion_tests::story::{Report, play};

fn play_with_kills(cases: Vec<cases::Case>) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let (report, mut plant) = play(dir.path(), cases, true, |line| eprintln!("{line}")).unwrap();
    plant.stop().unwrap();
    assert_eq!((report.kills.agent, report.kills.collector), (1, 1));
    assert_eq!(report.samples_lost, 0, "{report:?}");
    assert_eq!(report.samples_double_counted, 0, "{report:?}");
    assert_eq!(report.samples_unexplained, 0, "{report:?}");
    assert_eq!(report.samples_stored, report.samples_produced, "{report:?}");
    report
}

/// The elements that were named for a record; `undetermined` counts as one.
fn elements<'r>(report: &'r Report, record: &str) -> Vec<&'r str> {
    let mut elements: Vec<_> = report
        .advisories
        .iter()
        .filter(|raised| raised.record.ends_with(record))
        .map(|raised| raised.element.as_str())
        .collect();
    elements.sort_unstable();
    elements.dedup();
    elements
}

#[test]
fn simulated_faults_are_named_through_two_kills_and_the_healthy_machine_stays_silent() {
    let report = play_with_kills(cases::simulated());
    assert_eq!(elements(&report, cases::HEALTHY), [""; 0]);
    assert_eq!(elements(&report, cases::INNER_RACE_FAULT), ["inner_race"]);
    assert_eq!(elements(&report, cases::OUTER_RACE_FAULT), ["outer_race"]);
    for raised in &report.advisories {
        assert!(
            raised.raised_after_s > cases::FAULT_ONSET_S,
            "an alarm before the fault: {raised:?}"
        );
    }
}

#[test]
fn real_race_faults_are_named_through_two_kills_and_the_normal_record_stays_silent() {
    let name = "real_race_faults_are_named_through_two_kills_and_the_normal_record_stays_silent";
    if or_skip(name, "cwru", ".mat").is_none() {
        return;
    }
    let report = play_with_kills(cases::from_records(&data_dir().join("cwru")).unwrap());
    for (record, element) in [
        ("IR007_0_105", "inner_race"),
        ("IR007_1_106", "inner_race"),
        ("IR021_0_209", "inner_race"),
        ("OR007@6_0_130", "outer_race"),
        ("OR007@6_1_131", "outer_race"),
        ("OR021@6_0_234", "outer_race"),
    ] {
        assert_eq!(elements(&report, record), [element], "{record}");
    }
    for normal in ["normal_0_97", "normal_0_97 decimated"] {
        assert_eq!(elements(&report, normal), [""; 0], "{normal}");
    }
    for ball in ["B007_0_118", "B028_0_3005"] {
        let wrong = elements(&report, ball)
            .into_iter()
            .find(|element| !["ball", "undetermined"].contains(element));
        assert_eq!(wrong, None, "{ball}");
    }
}
