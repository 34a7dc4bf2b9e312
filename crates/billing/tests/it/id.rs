//! Ids.

use billing::{id, time};
use jiff::Timestamp;

#[test]
fn the_example_of_the_ulid_specification() {
    // 01ARZ3NDEKTSV4RRFFQ69G5FAV, taken apart into its time and its random bytes
    let at = Timestamp::from_millisecond(1_469_922_850_259).expect("a time");
    let random = [0xd6, 0x76, 0x4c, 0x61, 0xef, 0xb9, 0x93, 0x02, 0xbd, 0x5b];
    assert_eq!(id::new("res_", at, random), "res_01ARZ3NDEKTSV4RRFFQ69G5FAV");
}

#[test]
fn ids_sort_by_time_and_then_by_chance() {
    let at = |text| time::parse(text).expect("a time");
    let (before, after) = (at("2026-11-22T10:00:00.001Z"), at("2026-11-22T10:00:00.002Z"));
    let made = [
        id::new("evt_", Timestamp::MIN, [0; 10]), // a broken clock still makes an id
        id::new("evt_", before, [0; 10]),
        id::new("evt_", before, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        id::new("evt_", before, [255; 10]),
        id::new("evt_", after, [0; 10]),
    ];
    assert!(made.is_sorted_by(|left, right| left < right), "{made:?}");
    assert!(made.iter().all(|id| id.len() == "evt_".len() + 26));
}
