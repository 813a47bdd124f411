//! Three zones of real stores behind the real gateway, and what becomes of pulls while one of them
//! dies, hangs, is unreachable, storms, crawls or lies: skopeo and fifty clients at once, a cache
//! too small to help. No pull fails; where a zone lies, none is wrong, and the second try is right.

mod crowd;
mod faults;
mod lies;
mod namespace;
mod stage;
