//! The clock of macOS and the BSDs, and where the machine's own names are.

pub(crate) const DIRECTORY: &str = "/var/run";

/// Not all of these systems have a coarse clock.
pub(crate) use crate::base::by_instant::{epoch, now, now as recently};
