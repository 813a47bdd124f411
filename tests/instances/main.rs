//! Several Quays over one database, behind one gateway.

mod ill;
mod pair;
mod pushes;
