//! Counts the memory that HTTP/2 frames keep after they were read. Pure.
//!
//! h2 (0.4) reads frames into a buffer and returns slices of it. A slice of one byte keeps the whole buffer. The header
//! table (`hpack/header.rs:into_entry`) keeps the slices of `:path`, `:authority` and `:scheme` as long as the
//! connection lives, even after their request has ended. An unread body also consists of such slices. Trailers count
//! until no request of the connection has a body; honest clients send none.

use std::collections::HashMap;

/// `PRI * HTTP/2.0` and what follows it (RFC 9113 section 3.4), in bytes.
const PREFACE: usize = 24;

/// A frame's own head (RFC 9113 section 4.1), in bytes.
const FRAME_HEAD: usize = 9;

/// The most bytes of neighbouring frames that a small slice keeps. The read buffers of h2 have 8 KiB, or the size of a
/// frame that needs more.
const BUFFER: u64 = 16 * 1024;

/// If the frames of a body are smaller than this part of the bytes between them, the difference counts. The window,
/// which is reserved, covers as many bytes as the bodies have.
const GAP_PART: u64 = 2;

/// The most memory that a header field takes for each byte of its frame. One byte may name a field of HPACK's table
/// (RFC 7541 section 6.1). That field then has an entry of a map (112 bytes, see `server/cost.rs`), and the map keeps
/// some entries free.
const FIELD: u64 = 144;

/// The most memory that header fields take for each byte of their list. In the list, a field counts as 32 bytes and its
/// own bytes, of which there is at least one. In memory it takes 112 bytes and two allocations of 32: 176 bytes for 33.
const LIST_TIMES: u64 = 6;

/// For at most this many streams, the end of the last frame is remembered.
const STREAMS: usize = 1024;

// Types and flags of frames (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// Parses the frames of a connection, as far as they must be counted.
#[derive(Debug)]
pub(super) struct Frames {
    /// The longest header list, in bytes (`SETTINGS_MAX_HEADER_LIST_SIZE`).
    header_bytes: u64,
    /// Bytes until the next frame's head.
    skip: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
    /// Bytes read so far.
    position: u64,
    /// Where the last frame of a head ended.
    last_head: u64,
    /// Bytes that heads may keep.
    heads: u64,
    /// Bytes between small frames of bodies.
    gaps: u64,
    /// Frames of bodies that no handler has read yet.
    unread: u64,
    /// Bytes that trailers may keep.
    trailers: u64,
    /// If the frames that arrive now are trailers: their bytes so far.
    list: Option<u64>,
    /// The newest stream, by its number.
    newest: u32,
    /// For each stream with a body: where its last frame ended.
    bodies: HashMap<u32, u64>,
}

impl Frames {
    /// Counts a new connection, from which no byte was read yet. A header list may have `header_bytes`.
    pub(super) fn new(header_bytes: u64) -> Self {
        Self {
            header_bytes,
            skip: PREFACE,
            head: [0; FRAME_HEAD],
            filled: 0,
            position: 0,
            last_head: 0,
            heads: 0,
            gaps: 0,
            unread: 0,
            trailers: 0,
            list: None,
            newest: 0,
            bodies: HashMap::new(),
        }
    }

    /// Counts bytes that were read.
    pub(super) fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            self.position += skipped as u64;
            if self.skip > 0 || bytes.is_empty() {
                return;
            }
            let taken = (FRAME_HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == FRAME_HEAD {
                self.filled = 0;
                self.frame();
            }
        }
    }

    /// Handles a frame whose head is complete. Its payload counts in advance.
    fn frame(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let begin = self.position;
        self.skip = length as usize;
        self.position += FRAME_HEAD as u64;
        let (length, end) = (u64::from(length), self.position + u64::from(length));
        match kind {
            HEADERS | CONTINUATION | GOAWAY => {
                // The strings of a head may be Huffman-coded. They are decoded into a buffer of twice their length
                // (`hpack/huffman/mod.rs:decode`). Continued heads are copied into one buffer, which doubles as it
                // grows.
                self.heads += FRAME_HEAD as u64 + length * 2 + (begin - self.last_head).min(BUFFER);
                self.last_head = end;
                self.count_trailers(kind, stream, length);
                if kind == HEADERS && flags & END_STREAM == 0 {
                    self.ends(stream, end);
                }
            }
            DATA if length > 0 => {
                // Padding does not belong to the body.
                let body = if flags & PADDED == 0 { length } else { 0 };
                let gap = begin - self.ends(stream, end);
                let around = gap.min(BUFFER) + FRAME_HEAD as u64 + length - body;
                self.gaps += around.saturating_sub(body * GAP_PART);
                self.unread += 1;
            }
            _ => {}
        }
        if kind == RST_STREAM || (kind <= HEADERS && flags & END_STREAM != 0) {
            self.bodies.remove(&stream);
        }
    }

    /// Trailers are the second head of a stream. h2 keeps their fields until the body before them is read to its end
    /// (`proto/streams/recv.rs:recv_trailers`).
    fn count_trailers(&mut self, kind: u8, stream: u32, length: u64) {
        if kind != CONTINUATION {
            self.list = (kind == HEADERS && stream <= self.newest).then_some(0);
            self.newest = self.newest.max(if kind == HEADERS { stream } else { 0 });
        }
        if let Some(list) = &mut self.list {
            let most = LIST_TIMES * self.header_bytes;
            let before = (*list * FIELD).min(most);
            *list += length;
            self.trailers += (*list * FIELD).min(most) - before;
        }
    }

    /// Records where a stream's frame ends. Returns where the stream's frame before it ended.
    fn ends(&mut self, stream: u32, end: u64) -> u64 {
        if self.bodies.len() >= STREAMS {
            self.bodies.clear();
        }
        self.bodies.insert(stream, end).unwrap_or_default()
    }

    /// Records that a handler took a frame of a body.
    pub(super) fn handed_on(&mut self) {
        self.unread = self.unread.saturating_sub(1);
        if self.unread == 0 {
            self.gaps = 0;
        }
    }

    /// Records that no request has a body. Frames that no handler read are gone, too.
    pub(super) fn no_bodies(&mut self) {
        self.unread = 0;
        self.gaps = 0;
        self.trailers = 0;
    }

    /// Bytes that heads may keep. The number only grows.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Bytes that all frames may keep, beyond the window of bodies.
    pub(super) fn kept(&self) -> u64 {
        self.heads + self.gaps.min(self.unread * BUFFER) + self.trailers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNKNOWN: u8 = 0x42;
    const KIB: usize = 1024;
    const HEADER_BYTES: u64 = 64 * 1024;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).expect("it is short").to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(vec![0xff; length]);
        frame
    }

    fn after(frames: &[Vec<u8>]) -> Frames {
        let mut counted = Frames::new(HEADER_BYTES);
        counted.came(&[0; PREFACE]);
        frames.iter().for_each(|frame| counted.came(frame));
        counted
    }

    #[test]
    fn heads_count_with_what_lies_before_them() {
        let junk = frame(UNKNOWN, 0, 0, 100 * KIB);
        let small = frame(HEADERS, 5, 1, 30);
        assert_eq!(after(std::slice::from_ref(&junk)).kept(), 0);
        // The strings of a head may be Huffman-coded. They are decoded into a buffer of twice their length.
        let head = FRAME_HEAD as u64 + 2 * 30;
        assert_eq!(after(std::slice::from_ref(&small)).kept(), head + PREFACE as u64);
        assert_eq!(after(&[small, frame(HEADERS, 5, 3, 30)]).kept(), 2 * head + PREFACE as u64);
        assert_eq!(after(&[junk, frame(HEADERS, 5, 1, 30)]).kept(), head + BUFFER);
        let long = [frame(HEADERS, 1, 1, 16 * KIB), frame(CONTINUATION, 4, 1, 16 * KIB)];
        assert!(after(&long).heads() > 64 * KIB as u64);
    }

    #[test]
    fn a_body_that_is_read_counts_for_nothing() {
        let mut counted = after(&[frame(HEADERS, 4, 1, 30)]);
        let heads = counted.kept();
        for _ in 0..100_000 {
            counted.came(&frame(DATA, 0, 1, 16 * KIB));
            counted.came(&frame(UNKNOWN, 0, 0, 8));
            counted.handed_on();
        }
        assert_eq!(counted.kept(), heads);
    }

    #[test]
    fn an_unread_body_of_even_frames_is_the_windows() {
        for (length, count) in [(16 * KIB, 64), (KIB, 1024), (64, 16 * KIB)] {
            let mut counted = after(&[frame(HEADERS, 4, 1, 30)]);
            let heads = counted.kept();
            (0..count).for_each(|_| counted.came(&frame(DATA, 0, 1, length)));
            assert_eq!(counted.kept(), heads, "{length}");
        }
    }

    #[test]
    fn small_frames_of_an_unread_body_count_with_what_lies_between() {
        for between in [frame(UNKNOWN, 0, 0, 16 * KIB), frame(DATA, 0, 3, 16 * KIB)] {
            let mut counted = after(&[frame(HEADERS, 4, 1, 30), frame(HEADERS, 4, 3, 30)]);
            for _ in 0..1000 {
                counted.came(&between);
                if between[3] == DATA {
                    counted.handed_on();
                }
                counted.came(&frame(DATA, 0, 1, 256));
            }
            assert!(counted.kept() > 1000 * 15 * KIB as u64, "{counted:?}");
            let heads = counted.heads();
            (0..1000).for_each(|_| counted.handed_on());
            assert_eq!(counted.kept(), heads);
        }
    }

    /// h2 keeps trailers until the body before them is read.
    #[test]
    fn trailers_count_with_all_that_their_fields_take_until_no_body_is_read() {
        let trailers = |count: u32| {
            let streams = (0..count).map(|at| 2 * at + 1);
            let heads = streams.clone().map(|stream| frame(HEADERS, 4, stream, 30));
            let ends = streams.map(|stream| frame(HEADERS, 5, stream, 100));
            let mut counted = after(&heads.chain(ends).collect::<Vec<_>>());
            let kept = counted.kept() - counted.heads();
            counted.handed_on();
            assert_eq!(counted.kept(), counted.heads() + kept, "they come after all else");
            counted.no_bodies();
            assert_eq!(counted.kept(), counted.heads());
            kept
        };
        assert_eq!(trailers(1), 100 * FIELD);
        assert_eq!(trailers(3), 3 * trailers(1));
        let long = [
            frame(HEADERS, 4, 1, 30),
            frame(HEADERS, 1, 1, 16 * KIB),
            frame(CONTINUATION, 0, 1, 16 * KIB),
            frame(CONTINUATION, 4, 1, 16 * KIB),
        ];
        let counted = after(&long);
        assert_eq!(counted.kept() - counted.heads(), LIST_TIMES * HEADER_BYTES, "no list is longer");
        let requests =
            after(&[frame(HEADERS, 1, 1, 30), frame(CONTINUATION, 4, 1, 30), frame(HEADERS, 5, 3, 30)]);
        assert_eq!(requests.kept(), requests.heads());
    }

    #[test]
    fn padding_counts() {
        let mut counted = after(&[frame(HEADERS, 4, 1, 30)]);
        (0..100).for_each(|_| counted.came(&frame(DATA, PADDED, 1, 256)));
        assert!(counted.kept() > 100 * 256);
        counted.no_bodies();
        assert_eq!(counted.kept(), counted.heads());
    }

    proptest! {
        /// The result does not depend on how the bytes are cut.
        #[test]
        fn pieces_make_no_difference(
            frames in prop::collection::vec((0..10_u8, any::<u8>(), 0..9_u32, 0..300_usize), 1..20),
            piece in 1..50_usize,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, length)| {
                frame(*kind, *flags, *stream, *length)
            }).collect();
            let whole = after(std::slice::from_ref(&bytes));
            let pieces: Vec<Vec<u8>> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
            let pieces = after(&pieces);
            prop_assert_eq!((whole.kept(), whole.heads()), (pieces.kept(), pieces.heads()));
        }
    }
}
