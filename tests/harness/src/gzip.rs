//! Writes gzip (RFC 1952) without compression, as members of stored blocks.

use std::io::{self, Write};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};

/// The maximum number of bytes in a stored block (RFC 1951, 3.2.4).
const BLOCK: usize = 0xffff;
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Turns each piece into a gzip member. Together they are one gzip file.
pub fn members<E>(pieces: impl Stream<Item = Result<Bytes, E>>) -> impl Stream<Item = Result<Bytes, E>> {
    pieces.map_ok(|piece| Bytes::from(member(&piece)))
}

/// `bytes` as one gzip member.
#[must_use]
pub fn member(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / BLOCK * 5 + 32);
    let mut writer = Writer::new(&mut out);
    // Writing to a `Vec` does not fail.
    let _ = writer.write_all(bytes).and_then(|()| writer.finish());
    out
}

/// Writes one gzip member.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    block: Vec<u8>,
    begun: bool,
    crc: u32,
    length: u32,
}

impl<W: Write> Writer<W> {
    /// A writer of one member to `out`.
    pub fn new(out: W) -> Self {
        Self { out, block: Vec::with_capacity(BLOCK), begun: false, crc: !0, length: 0 }
    }

    /// Ends the member.
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn finish(&mut self) -> io::Result<()> {
        self.write_block(true)?;
        self.out.write_all(&(!self.crc).to_le_bytes())?;
        self.out.write_all(&self.length.to_le_bytes())?;
        self.out.flush()
    }

    fn write_block(&mut self, last: bool) -> io::Result<()> {
        if !self.begun {
            self.out.write_all(&HEADER)?;
            self.begun = true;
        }
        // A block is never longer than a 16-bit length.
        let length = self.block.len() as u16;
        self.out.write_all(&[u8::from(last)])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&(!length).to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.write_block(false)?;
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        let bytes = &bytes[..taken];
        for byte in bytes {
            self.crc = TABLE[((self.crc ^ u32::from(*byte)) & 0xff) as usize] ^ (self.crc >> 8);
        }
        self.length = self.length.wrapping_add(taken as u32);
        self.block.extend_from_slice(bytes);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CRC-32 of each byte (RFC 1952, 8).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_member() {
        // `printf 123456789 | gzip | od`. 0xcbf43926 is the check value of CRC-32.
        let member = member(b"123456789");
        assert_eq!(&member[10..15], &[1, 9, 0, 0xf6, 0xff]);
        assert_eq!(&member[15..24], b"123456789");
        assert_eq!(&member[24..28], &0xcbf4_3926_u32.to_le_bytes());
        assert_eq!(&member[28..], &9_u32.to_le_bytes());
    }

    #[test]
    fn long_input_takes_several_blocks() {
        let member = member(&vec![7; BLOCK + 1]);
        assert_eq!(member[10], 0);
        assert_eq!(&member[10 + 5 + BLOCK..][..5], &[1, 1, 0, 0xfe, 0xff]);
    }
}
