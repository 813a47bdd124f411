//! `quay-gateway clients`: real clients pull with what it writes, and what it refuses.

mod command;
mod connect_proxy;
mod containerd;
mod containers;
mod docker;
mod fixture;
mod openshift;
mod peers;
