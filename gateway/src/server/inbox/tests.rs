use futures_util::FutureExt as _;

use super::*;
use limits::memory::{Memory, Use};

const BUDGET: u64 = 64 * 1024 * 1024;

fn inbox(memory: &Memory) -> Inbox {
    Inbox::new(memory.reserve(Use::Connections, None, CONNECTION).expect("there is room"))
}

fn http2(memory: &Memory) -> Inbox {
    let inbox = inbox(memory);
    inbox.multiplexed(64 * 1024);
    inbox.came(&[0; 24]).expect("the preface");
    inbox
}

fn reserved(memory: &Memory) -> u64 {
    memory.status().reserved[Use::Connections as usize]
}

/// An HTTP/2 frame with 1 KiB of payload.
fn frame(kind: u8, flags: u8) -> Vec<u8> {
    [&[0, 4, 0, kind, flags, 0, 0, 0, 1], &[0_u8; 1024][..]].concat()
}

/// The bytes that such a frame counts if it is a head.
const HEAD: u64 = 9 + 2 * 1024;

/// Heads, each of a newer stream.
fn heads() -> impl Iterator<Item = Vec<u8>> {
    (0_u32..).map(|number| {
        let mut head = frame(1, 5);
        head[5..9].copy_from_slice(&(2 * number + 1).to_be_bytes());
        head
    })
}

fn is_asked(inbox: &Inbox) -> bool {
    inbox.renewal().now_or_never().is_some()
}

#[test]
fn heads_of_http2_are_reserved_until_another_connection_is_asked_for() {
    let memory = Memory::new(BUDGET);
    let inbox = http2(&memory);
    let (mut heads, mut asked, mut frames) = (0, None, self::heads());
    let overrun = loop {
        if let Err(overrun) = inbox.came(&frames.next().expect("without end")) {
            break overrun;
        }
        heads += HEAD;
        assert!(reserved(&memory) + INCLUDED >= CONNECTION + heads);
        if is_asked(&inbox) {
            assert_eq!(asked.replace(heads), None, "once");
        }
    };
    assert!(matches!(overrun, Overrun::Heads));
    assert!(asked.is_some_and(|asked| asked > HEADS && asked < HEADS + STEP), "{asked:?}");
    assert!(heads > HEADS_MAX - STEP && heads <= HEADS_MAX);
    drop(inbox);
    assert_eq!(reserved(&memory), 0);
}

#[test]
fn where_memory_is_short_a_connection_is_asked_and_then_cut() {
    let memory = Memory::new(4 * CONNECTION);
    let inbox = http2(&memory);
    let _rest = memory.reserve(Use::Requests, None, 3 * CONNECTION).expect("there is room");
    let (mut heads, mut frames) = (0, self::heads());
    while !is_asked(&inbox) {
        inbox.came(&frames.next().expect("without end")).expect("it is asked first");
        heads += HEAD;
    }
    assert!(heads < INCLUDED + 2 * HEAD, "as soon as it would need more");
    let refused = || memory.status().refused[Use::Connections as usize];
    assert_eq!(refused(), 0);
    let overrun = frames.map(|head| inbox.came(&head)).find_map(Result::err);
    assert!(matches!(overrun, Some(Overrun::Memory)));
    assert_eq!(refused(), 1);
}

#[test]
fn growth_leaves_the_last_part_of_the_budget_to_requests() {
    let memory = Memory::new(BUDGET);
    let inbox = http2(&memory);
    let _others = memory.reserve(Use::Requests, None, BUDGET / 4 * 3).expect("there is room");
    let few = INCLUDED as usize / 2048 + 2;
    heads().take(few).for_each(|head| inbox.came(&head).expect("there is room"));
    assert!(is_asked(&inbox));
}

#[test]
fn a_body_is_its_windows_and_small_frames_of_it_are_the_connections() {
    let memory = Memory::new(BUDGET);
    let inbox = http2(&memory);
    inbox.came(&frame(1, 4)).expect("there is room");
    let reader = inbox.body();
    for _ in 0..10_000 {
        inbox.came(&frame(0, 0)).expect("there is room");
        reader.took();
    }
    assert_eq!(reserved(&memory), CONNECTION);
    let junk = frame(0x42, 0).repeat(15);
    for _ in 0..100 {
        inbox.came(&junk).expect("there is room");
        inbox.came(&frame(0, 0)).expect("there is room");
    }
    assert!(reserved(&memory) > 100 * 13 * 1024, "{}", reserved(&memory));
    drop(reader);
    assert_eq!(reserved(&memory), CONNECTION);
}

#[test]
fn trailers_are_reserved_until_the_body_is_done() {
    let memory = Memory::new(BUDGET);
    let inbox = http2(&memory);
    inbox.came(&frame(1, 4)).expect("there is room");
    let reader = inbox.body();
    inbox.came(&frame(1, 5)).expect("there is room");
    assert!(reserved(&memory) > CONNECTION + 128 * 1024, "{}", reserved(&memory));
    drop(reader);
    assert_eq!(reserved(&memory), CONNECTION);
}

#[test]
fn a_head_of_http1_is_reserved_until_it_is_a_request() {
    let memory = Memory::new(BUDGET);
    let inbox = inbox(&memory);
    inbox.came(&[b'x'; 60_000]).expect("there is room");
    assert!(reserved(&memory) + INCLUDED >= CONNECTION + 60_000);
    inbox.request_begins();
    assert_eq!(reserved(&memory), CONNECTION);
    let reader = inbox.body();
    inbox.came(&[0; 1_000_000]).expect("it is a body");
    drop(reader);
    assert_eq!(reserved(&memory), CONNECTION);
    assert!(!is_asked(&inbox), "HTTP/1.1 keeps nothing of what was answered");
}

#[test]
fn a_head_of_http1_that_has_no_room_is_cut() {
    let memory = Memory::new(CONNECTION);
    let inbox = inbox(&memory);
    inbox.came(&[b'x'; 16_000]).expect("it is included");
    assert!(matches!(inbox.came(&[b'x'; 1000]), Err(Overrun::Memory)));
}
