//! The write half: copies of every pushed blob in every zone it belongs to.
