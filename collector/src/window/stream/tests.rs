use super::*;

const NEVER: EventTime = EventTime(i64::MIN);
const END: EventTime = EventTime(i64::MAX);

fn rules(kind: Kind) -> Rules {
    Rules {
        shape: Shape::new(kind, 0).unwrap(),
        lateness_ns: 0,
        emit: Emit::Close,
        quantiles: false,
    }
}

fn tumbling(size_ns: i64) -> Rules {
    rules(Kind::Tumbling { size_ns })
}

fn place(stream: &mut Stream<u32>, lane: Lane, times: impl IntoIterator<Item = i64>) -> Placed {
    stream.place(
        &1,
        lane,
        &NEVER,
        times.into_iter().map(|time| (EventTime(time), 1.0)),
    )
}

/// Start, end and count of what is told.
fn told(emitted: &[Emitted<u32>]) -> Vec<(i64, i64, u64)> {
    let count = |told: &Emitted<u32>| told.new.map_or(0, |new| new.count);
    emitted
        .iter()
        .map(|told| (told.start.0, told.end.0, count(told)))
        .collect()
}

#[test]
fn a_window_of_readings_is_two_cache_lines() {
    assert!(size_of::<Window>() <= 128);
}

#[test]
fn what_is_no_number_opens_no_window_and_extends_no_session() {
    let mut stream = Stream::new(rules(Kind::Session { gap_ns: 10 }));
    let unusable = [f64::NAN, f64::INFINITY, -1e30].map(|value| (EventTime(8), value));
    assert_eq!(stream.place(&1, Lane::Live, &NEVER, unusable).unusable, 3);
    assert_eq!((stream.windows(), stream.advance_all(END).len()), (0, 0));
    let _ = place(&mut stream, Lane::Live, [0]);
    let _ = stream.place(&1, Lane::Live, &NEVER, unusable);
    assert_eq!(told(&stream.advance_all(END)), [(0, 10, 1)]);
}

#[test]
fn all_keys_are_told_by_rising_key_and_start_whichever_came_first() {
    let mut stream = Stream::new(tumbling(10));
    for key in [3, 1, 2] {
        let readings = [15, 5].map(|time| (EventTime(time), 1.0));
        assert_eq!(stream.place(&key, Lane::Live, &NEVER, readings).on_time, 2);
    }
    let names: Vec<_> = stream
        .advance_all(END)
        .iter()
        .map(|told| (told.key, told.start.0))
        .collect();
    assert_eq!(names, [(1, 0), (1, 10), (2, 0), (2, 10), (3, 0), (3, 10)]);
}

#[test]
fn one_window_too_many_fires_the_first_which_is_over_then() {
    let mut stream = Stream::new(tumbling(10));
    let windows = WINDOWS_MAX as i64 + 5;
    assert_eq!(
        place(&mut stream, Lane::Live, (0..windows).map(|n| 10 * n)).on_time,
        windows as u64
    );
    assert_eq!((stream.windows(), stream.given_up()), (WINDOWS_MAX, 5));
    assert_eq!(
        place(&mut stream, Lane::Live, [49, 59]),
        Placed {
            on_time: 1,
            late: 1,
            ..Placed::default()
        }
    );
    let emitted = stream.advance(&1, &END);
    assert_eq!(emitted.len(), windows as usize, "each window is told once");
    assert!(emitted.iter().all(|told| told.revision == 0));
    assert_eq!(told(&emitted)[4..6], [(40, 50, 1), (50, 60, 2)]);
}

#[test]
fn where_windows_are_too_many_those_that_have_fired_go_first() {
    let mut stream = Stream::new(Rules {
        lateness_ns: 1_000_000,
        ..tumbling(10)
    });
    let _ = place(&mut stream, Lane::Live, (0..WINDOWS_MAX as i64).map(|n| 10 * n));
    assert_eq!(stream.advance(&1, &EventTime(20)).len(), 2);
    let _ = place(&mut stream, Lane::History, [-10]);
    assert_eq!((stream.windows(), stream.given_up()), (WINDOWS_MAX, 1));
    assert_eq!(place(&mut stream, Lane::Live, [5]).late, 1);
    assert_eq!(place(&mut stream, Lane::Live, [15]).corrects, 1);
}

#[test]
fn one_key_too_many_finds_no_room() {
    let mut stream = Stream::new(tumbling(10));
    for key in 0..KEYS_MAX as u32 {
        let _ = stream.place(&key, Lane::Live, &NEVER, []);
    }
    let readings = || [(EventTime(1), 1.0); 3];
    assert_eq!(stream.place(&u32::MAX, Lane::Live, &NEVER, readings()).no_room, 3);
    assert_eq!(stream.place(&7, Lane::Live, &NEVER, readings()).on_time, 3);
}

#[test]
fn of_too_many_spans_that_are_over_the_closest_become_one_and_an_outage_stays_open() {
    let mut stream = Stream::new(tumbling(10));
    // Every other window, and an outage of a hundred in the middle.
    let starts = (0..100).map(|n| 20 * n + if n < 50 { 0 } else { 1_000 });
    for start in starts {
        assert_eq!(place(&mut stream, Lane::History, [start]).on_time, 1);
        assert_eq!(stream.advance(&1, &END).len(), 1);
    }
    assert_eq!(stream.slots[0].over.0.len(), SPANS_MAX);
    assert_eq!(place(&mut stream, Lane::History, [0, 10]).late, 2);
    let outage = (100..199).map(|n| 10 * n);
    assert_eq!(place(&mut stream, Lane::History, outage).on_time, 99);
}

#[test]
fn a_change_of_shape_ends_windows_and_begins_others_there() {
    let mut stream = Stream::new(tumbling(10));
    let _ = place(&mut stream, Lane::Live, [5, 21]);
    stream.change(tumbling(20), EventTime(25));
    let _ = place(&mut stream, Lane::Live, [24, 25, 39, 40]);
    let expected = [(0, 10, 1), (20, 25, 2), (25, 40, 2), (40, 60, 1)];
    assert_eq!(told(&stream.clone().advance_all(END)), expected);
    // What comes last wins, and the same shape again cuts nothing.
    stream.change(tumbling(50), EventTime(70));
    stream.change(tumbling(20), EventTime(65));
    let _ = place(&mut stream, Lane::Live, [66, 79]);
    assert_eq!(told(&stream.advance_all(END))[4..], [(60, 80, 2)]);
}

#[test]
fn a_change_that_is_taken_back_before_it_holds_leaves_the_windows_whole() {
    let mut stream = Stream::new(tumbling(10));
    let _ = place(&mut stream, Lane::Live, [21]);
    stream.change(tumbling(20), EventTime(25));
    stream.change(tumbling(10), EventTime(25));
    let _ = place(&mut stream, Lane::Live, [26]);
    assert_eq!(told(&stream.advance_all(END)), [(20, 30, 2)]);
}

#[test]
fn where_hopping_windows_begin_to_hold_those_that_began_before_are_one() {
    let mut stream = Stream::new(tumbling(10));
    let hopping = rules(Kind::Hopping {
        size_ns: 30,
        slide_ns: 10,
    });
    stream.change(hopping, EventTime(15));
    let _ = place(&mut stream, Lane::Live, [14, 16, 25]);
    let expected = [(10, 15, 1), (15, 40, 2), (20, 50, 1)];
    assert_eq!(told(&stream.advance_all(END)), expected);
}

#[test]
fn a_session_ends_where_the_shape_changes() {
    let mut stream = Stream::new(rules(Kind::Session { gap_ns: 10 }));
    let _ = place(&mut stream, Lane::Live, [90, 98]);
    stream.change(rules(Kind::Session { gap_ns: 5 }), EventTime(100));
    let _ = place(&mut stream, Lane::Live, [99, 100, 104]);
    assert_eq!(told(&stream.advance_all(END)), [(90, 100, 3), (100, 109, 2)]);
}

#[test]
fn changes_of_the_rules_are_bounded() {
    let mut stream: Stream<u32> = Stream::new(tumbling(10));
    for n in 1..3 * ERAS_MAX as i64 {
        stream.change(tumbling(10 + n), EventTime(1_000 * n));
    }
    assert_eq!(stream.eras.len(), ERAS_MAX);
    assert_eq!(
        place(&mut stream, Lane::History, [-1]).on_time,
        1,
        "the oldest one left holds before"
    );
}

#[test]
fn a_window_that_is_over_is_made_again_as_it_was_cut_then() {
    let mut stream = Stream::new(tumbling(10));
    stream.change(tumbling(20), EventTime(100));
    let _ = place(&mut stream, Lane::Live, [95, 101]);
    let before = stream.advance_all(END);
    assert_eq!(place(&mut stream, Lane::Live, [96]).late, 1);
    let mut again = stream.emptied();
    assert_eq!(place(&mut again, Lane::Live, [95, 101, 96]).on_time, 3);
    assert_eq!(told(&before), [(90, 100, 1), (100, 120, 1)]);
    assert_eq!(told(&again.advance_all(END)), [(90, 100, 2), (100, 120, 1)]);
}

#[test]
fn lateness_and_quantiles_change_at_once() {
    let mut stream = Stream::new(tumbling(10));
    let _ = place(&mut stream, Lane::Live, [5]);
    stream.change(
        Rules {
            lateness_ns: 5,
            quantiles: true,
            ..tumbling(10)
        },
        EventTime(1_000),
    );
    assert_eq!(stream.advance(&1, &EventTime(14)).len(), 1);
    assert_eq!(
        place(&mut stream, Lane::Live, [6, 15]),
        Placed {
            corrects: 1,
            on_time: 1,
            ..Placed::default()
        }
    );
    let emitted = stream.advance(&1, &END);
    let quantiles: Vec<_> = emitted.iter().map(|told| told.new.unwrap().quantiles).collect();
    assert_eq!(
        quantiles,
        [None, Some([1.0; 3])],
        "a window that was open has counted none"
    );
}

#[test]
fn history_and_live_readings_share_a_window_and_it_says_so() {
    let mut stream = Stream::new(tumbling(10));
    let _ = place(&mut stream, Lane::Live, [5, 15]);
    let _ = place(&mut stream, Lane::History, [6]);
    let flags: Vec<_> = stream.advance_all(END).iter().map(|told| told.history).collect();
    assert_eq!(flags, [true, false]);
}
