//! Why a PEM file cannot be read, without any part of its contents.

use rustls::pki_types::pem;

/// Why a PEM file cannot be read. The parser's own error repeats the line that it does not understand. If the line
/// breaks of a private key were lost, that line is the whole key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file does not exist or cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It has no item of the wanted kind.
    #[error("nothing of that kind is in it")]
    Missing,
    /// It is damaged, or it is not PEM.
    #[error(
        "it is no valid PEM: its lines must be as they were made, from the BEGIN line to the END line, each on a line of \
         its own"
    )]
    Malformed,
}

impl From<pem::Error> for PemError {
    fn from(error: pem::Error) -> Self {
        match error {
            pem::Error::Io(error) => Self::Read(error),
            pem::Error::NoItemsFound => Self::Missing,
            _ => Self::Malformed,
        }
    }
}
