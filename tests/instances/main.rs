//! Several instances of Quay with one database, behind one gateway.

mod failures;
mod pair;
mod pushes;
mod replicas;
