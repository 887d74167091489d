use super::*;

#[test]
fn a_server_that_is_down_for_long_is_asked_less_and_less_and_never_by_all_at_once() {
    let pauses: Vec<u64> = (1..=9).map(|failures| pause(failures, 127).as_secs()).collect();
    assert_eq!(pauses[..3], [59, 179, 539]);
    let within_an_hour = pauses.iter().scan(0, |at, pause| {
        *at += pause;
        Some(*at)
    });
    assert!(within_an_hour.filter(|at| *at < 3600).count() < 5, "public servers take five failures an hour");
    assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE.as_secs()));
    assert_eq!((pause(1, 0).as_secs(), pause(1, 255).as_secs()), (48, 72));
    assert!(pause(u32::MAX, 255) <= LONGEST_PAUSE * 12 / 10);
}
