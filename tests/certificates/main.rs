//! The certificates that clients see: made by command, served, replaced while the gateway runs, and asked of clients.

mod client_ca;
mod commands;
mod fixture;
mod reload;
mod served;
