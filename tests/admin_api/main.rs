//! The admin API, as its OpenAPI document describes it.

mod answers;
mod document;
mod fixture;
mod schemathesis;
mod tls;
