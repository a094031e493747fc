//! Typed calls of async programs: what blocking ones cannot do, such as to drop a call half-way.

mod alone;
mod dropped;
mod ends;
mod faulty;
mod harness;
mod kept;
mod large;
mod many;
mod panics;
mod runtimes;
#[cfg(target_os = "linux")]
mod scaling;
mod streams;
mod unpolled;
mod untold;
mod wakers;
