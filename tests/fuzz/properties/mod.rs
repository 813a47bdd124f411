//! What holds for every input of a parser, whoever wrote it. The fuzz targets and a test over the corpus share it.

pub(crate) mod challenge;
pub(crate) mod manifest;
pub(crate) mod range;
pub(crate) mod route;
pub(crate) mod token;
