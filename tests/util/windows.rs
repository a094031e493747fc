//! What the tests need of Windows.

use std::path::Path;

use super::PortableName;

/// A place for a listener that no other test has.
#[derive(Debug)]
pub(crate) struct Place {
    name: PortableName,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            name: PortableName::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The whole name, for those who open the pipe without this crate.
    pub(crate) fn pipe(&self) -> String {
        self.name.pipe()
    }
}

/// Whether the system tells the process id of a peer.
pub(crate) const PEER_HAS_PID: bool = true;

/// Whether this runs under Wine, by a program that every prefix has and Windows has not.
pub(crate) fn is_wine() -> bool {
    Path::new(r"C:\windows\system32\winecfg.exe").exists()
}

/// A listener leaves nothing behind here.
pub(super) fn clear_away(_portable_name: &str) {}

/// What this build calls its platform.
pub(crate) const PLATFORM: &str = "windows";

/// How many clients come at once in the stress test.
pub(crate) const MANY_CLIENTS: usize = 200;

/// There is no limit to raise here.
pub(crate) fn allow_many_descriptors() {}

/// Ctrl-C cannot be sent to one program alone.
pub(crate) const INTERRUPT: Option<fn(&std::process::Child)> = None;
