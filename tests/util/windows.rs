//! What the tests need of Windows.

use std::path::Path;

use super::PortableName;

/// A place for a listener that no other test has.
#[derive(Debug)]
pub struct Place {
    name: PortableName,
}

impl Place {
    pub fn new() -> Place {
        Place {
            name: PortableName::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole name, for those who open the pipe without this crate.
    pub fn pipe(&self) -> String {
        self.name.pipe()
    }
}

/// Whether the system tells the process id of a peer.
pub const PEER_HAS_PID: bool = true;

/// Whether this runs under Wine, by a program that every prefix has and Windows has not.
pub fn is_wine() -> bool {
    Path::new(r"C:\windows\system32\winecfg.exe").exists()
}

/// A listener leaves nothing behind here.
pub(crate) fn clear_away(_portable_name: &str) {}

/// What this build calls its platform.
pub const PLATFORM: &str = "windows";

/// How many clients come at once in the stress test.
pub const MANY_CLIENTS: usize = 200;

/// There is no limit to raise here.
pub fn allow_many_descriptors() {}

/// Ctrl-C cannot be sent to one program alone.
pub const INTERRUPT: Option<fn(&std::process::Child)> = None;
