//! Reads the end of a log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;

/// The name that stands for standard input.
const STDIN: &str = "-";

/// The size of one read in bytes.
const PIECE: usize = 64 * 1024;

/// The end of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct LogTail {
    /// Whole lines. Bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether there were more bytes before these.
    pub is_cut: bool,
}

impl LogTail {
    /// Reads the last `max` bytes of a file, of a pipe to its end, or of standard input, which is `-`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, max: usize) -> anyhow::Result<Self> {
        let unreadable = || format!("the log {} cannot be read", path.display());
        if path == Path::new(STDIN) {
            return Self::of_stream(std::io::stdin().lock(), max).with_context(unreadable);
        }
        let mut file = File::open(path).with_context(unreadable)?;
        let metadata = file.metadata().with_context(unreadable)?;
        if !metadata.is_file() {
            return Self::of_stream(file, max).with_context(unreadable);
        }
        let start = metadata.len().saturating_sub(max as u64);
        file.seek(SeekFrom::Start(start)).with_context(unreadable)?;
        let mut bytes = Vec::new();
        // The file may grow meanwhile.
        file.take(max as u64).read_to_end(&mut bytes).with_context(unreadable)?;
        Ok(Self::new(&bytes, start > 0))
    }

    /// Reads a stream to its end, and keeps the last `max` bytes.
    fn of_stream(mut stream: impl Read, max: usize) -> std::io::Result<Self> {
        let (mut kept, mut is_cut) = (VecDeque::new(), false);
        let mut piece = vec![0; PIECE];
        loop {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                break;
            }
            kept.extend(&piece[..read]);
            let spare = kept.len().saturating_sub(max);
            is_cut |= spare > 0;
            kept.drain(..spare);
        }
        Ok(Self::new(kept.make_contiguous(), is_cut))
    }

    /// Drops the first line if its beginning was cut.
    fn new(bytes: &[u8], is_cut: bool) -> Self {
        let first = match is_cut {
            true => bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1),
            false => 0,
        };
        Self { text: String::from_utf8_lossy(&bytes[first..]).into_owned(), is_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines_are_kept() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n")?;
        for (max, text, is_cut) in [
            (100, "one\ntwo\nthree\n", false),
            (14, "one\ntwo\nthree\n", false),
            (8, "three\n", true),
            (3, "", true),
        ] {
            let wanted = LogTail { text: text.to_owned(), is_cut };
            assert_eq!(LogTail::read(&path, max)?, wanted);
            assert_eq!(LogTail::of_stream(File::open(&path)?, max)?, wanted);
        }
        assert!(LogTail::read(dir.path(), 10).is_err(), "a folder is no log");
        Ok(())
    }
}
