//! Frames of HTTP/2 (RFC 9113), for requests that no client library sends.

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a client sends first, before its SETTINGS (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of a frame with a part of a body (section 6.1).
pub const DATA: u8 = 0x0;
/// The type of a frame with a head or with trailers (section 6.2).
pub const HEADERS: u8 = 0x1;
/// The type of the frame that ends a stream before its end (section 6.4).
pub const RST_STREAM: u8 = 0x3;
/// The type of the frame that a connection begins with (section 6.5).
pub const SETTINGS: u8 = 0x4;
/// The type of the frame that the other side answers with the same bytes (section 6.7).
pub const PING: u8 = 0x6;
/// The type of the frame that announces the end of a connection (section 6.8).
pub const GOAWAY: u8 = 0x7;
/// The type of the frame that allows more bytes of bodies (section 6.9).
pub const WINDOW_UPDATE: u8 = 0x8;

/// The flag of the last frame of a stream.
pub const END_STREAM: u8 = 0x1;
/// The flag of an answer to [`SETTINGS`] or [`PING`].
pub const ACK: u8 = 0x1;
/// The flag of the last frame of a head.
pub const END_HEADERS: u8 = 0x4;

/// A frame that was read.
#[derive(Debug)]
pub struct Frame {
    /// The type, such as [`HEADERS`].
    pub kind: u8,
    /// The flags, such as [`END_STREAM`].
    pub flags: u8,
    /// The stream, or 0 for the connection.
    pub stream: u32,
    /// The bytes after the frame's own head.
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
///
/// # Panics
/// The payload has more than 2^24 - 1 bytes.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length of 24 bits").to_be_bytes();
    assert_eq!(length[0], 0, "a length of 24 bits");
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads one frame.
///
/// # Errors
/// The connection ends or breaks before the frame's end.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, number @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes(number), payload })
}

/// Adds a header field to the payload of a [`HEADERS`] frame: a literal without index and Huffman coding (RFC 7541,
/// 6.2.2).
pub fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        match text.len().checked_sub(127) {
            None => block.push(u8::try_from(text.len()).unwrap_or(0)),
            Some(rest) => {
                block.push(127);
                let mut rest = rest;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap_or(0));
            }
        }
        block.extend(text.as_bytes());
    }
}
