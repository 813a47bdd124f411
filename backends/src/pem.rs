//! Why a file in PEM cannot be read, without a word of what is in it.

use rustls::pki_types::pem;

/// Why a file in PEM cannot be read. The parser's own error repeats the line that it does not understand, and all of a
/// private key is one line if its line breaks were lost.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file does not exist or cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It has nothing of the kind that is looked for.
    #[error("nothing of that kind is in it")]
    Missing,
    /// It is damaged, or no PEM.
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
